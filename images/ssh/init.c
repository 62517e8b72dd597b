// The first process of the machine: starts what runs on it, starts it anew when it ends, and reaps.
//
// Where it is asked to (any argument), and the kernel can (5.0), it has uname(2) and sysinfo(2) answered by whoever holds
// the listener of its filter: the node, which takes it from this process's descriptors. Until it does, such calls wait.
//
// By other names than init's it only waits: for what a machine has running that could not do its work in here.
// It also closes ways out that the engine's filter may leave open. All that runs on the machine comes from this process.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SECCOMP_RET_USER_NOTIF
#define SECCOMP_RET_USER_NOTIF 0x7fc00000U
#endif
#ifndef SECCOMP_FILTER_FLAG_NEW_LISTENER
#define SECCOMP_FILTER_FLAG_NEW_LISTENER (1UL << 3)
#endif

#define MOST 16
#define FIRST_PAUSE 1  // seconds between an end and the next start
#define LAST_PAUSE 60

// service is a line of the list: what runs. After the word "zoned" it is something that learns of another time zone
// only when it is started anew.
struct service {
	char line[256];
	char *argv[24];
	pid_t pid;
	time_t started, again;
	int pause;
	int zoned, anew;
};

// What the first process of a machine has in its environment, and what services have.
static char *const own_env[] = { "HOME=/", "TERM=linux", NULL };
static char *const their_env[] = { "LANG=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL };

static struct service services[MOST];
static int count;
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IS(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, value)
#define REFUSE(error) RETURN(SECCOMP_RET_ERRNO | (error))

// Network namespaces keep no socket of other families in: AF_VSOCK leads to the hypervisor, others have the kernel load modules.
#define FAMILY \
	LOAD(args[0]), IS(AF_UNIX, 5, 0), IS(AF_INET, 4, 0), IS(AF_INET6, 3, 0), IS(AF_NETLINK, 2, 0), IS(AF_PACKET, 1, 0), \
	REFUSE(EAFNOSUPPORT), RETURN(SECCOMP_RET_ALLOW)
#define FAMILY_LENGTH 8

// What engines of today refuse, but older ones don't. What io_uring does is seen by no filter.
#define URING LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 425, 0, 2), BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 427, 1, 0), REFUSE(EPERM)

static void close_doors(void)
{
	struct sock_filter filter[] = {
		LOAD(arch),
#if defined(__x86_64__)
		IS(AUDIT_ARCH_X86_64, 0, 9 + FAMILY_LENGTH),
		URING,
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1), REFUSE(ENOSYS), // x32: no machine has it
		IS(41, 2, 0), IS(53, 1, 0), RETURN(SECCOMP_RET_ALLOW),
		FAMILY,
		IS(AUDIT_ARCH_I386, 0, 12 + FAMILY_LENGTH),
		URING,
		IS(359, 7, 0), IS(360, 6, 0), IS(102, 1, 0), RETURN(SECCOMP_RET_ALLOW),
		LOAD(args[0]), IS(1, 0, 1), REFUSE(ENOSYS), // socket by socketcall: of which family can't be seen
		RETURN(SECCOMP_RET_ALLOW),
		FAMILY,
#elif defined(__aarch64__)
		IS(AUDIT_ARCH_AARCH64, 0, 7 + FAMILY_LENGTH),
		URING,
		IS(198, 2, 0), IS(199, 1, 0), RETURN(SECCOMP_RET_ALLOW),
		FAMILY,
		IS(AUDIT_ARCH_ARM, 0, 7 + FAMILY_LENGTH),
		URING,
		IS(281, 2, 0), IS(288, 1, 0), RETURN(SECCOMP_RET_ALLOW),
		FAMILY,
#endif
		RETURN(SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof(filter) / sizeof(filter[0]), .filter = filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
		_exit(1); // rather no machine than an open one
}

static void listen_for_questions(void)
{
	struct sock_filter filter[] = {
		LOAD(arch),
#if defined(__x86_64__)
		IS(AUDIT_ARCH_X86_64, 0, 4),
		LOAD(nr), IS(63, 7, 0), IS(99, 6, 0), RETURN(SECCOMP_RET_ALLOW),
		IS(AUDIT_ARCH_I386, 0, 3),
		LOAD(nr), IS(122, 2, 0), IS(116, 1, 0),
		RETURN(SECCOMP_RET_ALLOW),
		RETURN(SECCOMP_RET_USER_NOTIF),
#elif defined(__aarch64__)
		IS(AUDIT_ARCH_AARCH64, 0, 3),
		LOAD(nr), IS(160, 2, 0), IS(179, 1, 0),
		RETURN(SECCOMP_RET_ALLOW),
		RETURN(SECCOMP_RET_USER_NOTIF),
#else
		RETURN(SECCOMP_RET_ALLOW),
#endif
	};
	struct sock_fprog program = { .len = sizeof(filter) / sizeof(filter[0]), .filter = filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return;
	// The descriptor stays open here, so that questions wait, and don't fail, while the node is away.
	int fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
	if (fd >= 0)
		fcntl(fd, F_SETFD, 0);
}

static void read_list(const char *path)
{
	FILE *f = fopen(path, "re");
	char line[256];

	if (!f)
		return;
	while (count < MOST && fgets(line, sizeof line, f)) {
		struct service *s = &services[count];
		int n = 0;
		line[strcspn(line, "\n")] = 0;
		if (!line[0] || line[0] == '#')
			continue;
		strcpy(s->line, line);
		for (char *w = strtok(s->line, " "); w && n < 23; w = strtok(NULL, " "))
			s->argv[n++] = w;
		if (n && !strcmp(s->argv[0], "zoned")) {
			s->zoned = 1;
			memmove(s->argv, s->argv + 1, sizeof(char *) * n);
		}
		if (s->argv[0])
			count++;
	}
	fclose(f);
}

static void start(struct service *s)
{
	s->started = time(NULL);
	s->again = 0;
	s->pid = fork();
	if (s->pid == 0) {
		sigset_t none;
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		setsid();
		// As systemd has it: after an @ comes the name by which the program is called.
		if (s->argv[0][0] == '@' && s->argv[1])
			execve(s->argv[0] + 1, s->argv + 1, their_env);
		execve(s->argv[0], s->argv, their_env);
		_exit(127);
	}
	if (s->pid < 0) {
		s->pid = 0;
		s->again = s->started + LAST_PAUSE;
	}
}

// run_asked runs the command in a file that the node has written.
static void run_asked(const char *path)
{
	static char line[1024];
	struct service s = { .argv = { "/bin/sh", "-c", line } };
	FILE *f = fopen(path, "re");

	if (!f)
		return;
	if (fgets(line, sizeof line, f))
		start(&s);
	fclose(f);
}

static void ended(pid_t pid)
{
	for (int i = 0; i < count; i++) {
		struct service *s = &services[i];
		time_t now = time(NULL);
		if (s->pid != pid)
			continue;
		s->pid = 0;
		if (now - s->started > LAST_PAUSE)
			s->pause = 0;
		s->pause = s->pause ? (s->pause * 2 > LAST_PAUSE ? LAST_PAUSE : s->pause * 2) : FIRST_PAUSE;
		s->again = s->anew ? now : now + s->pause;
		s->anew = 0;
	}
}

int main(int argc, char **argv)
{
	sigset_t all;
	struct timespec tick = { .tv_sec = 1 };
	struct timespec *wait = NULL;
	int closed = 0;

	if (getpid() != 1) {
		signal(SIGHUP, SIG_IGN);
		while (argc == 1 && strstr(argv[0], "/systemd-"))
			pause();
		return 1;
	}
	int null = open("/dev/null", O_RDWR);
	if (null >= 0)
		for (int fd = 0; fd < 3; fd++)
			dup2(null, fd);
	if (null > 2)
		close(null);
	chdir("/");
	// What of a process outlives its beginning anew and shows nowhere: it says that the doors are closed already.
	if (prctl(PR_GET_CHILD_SUBREAPER, &closed, 0, 0, 0) || !closed)
		close_doors();
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	if (argc > 1) { // begun anew without its arguments, which everybody sees
		listen_for_questions();
		argv[1] = NULL;
		execve("/lib/systemd/systemd", argv, own_env);
	}
	for (int fd = 3; fd < 64; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			fcntl(fd, F_SETFD, FD_CLOEXEC);
	prctl(PR_SET_NAME, "systemd");
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	read_list("/usr/lib/systemd/machine.list");
	struct utsname name;
	uname(&name); // which waits for the node: it has a say in what number the first service gets
	for (int i = 0; i < count; i++)
		start(&services[i]);
	for (;;) {
		int status, waiting = 0;
		pid_t pid;
		time_t now;
		siginfo_t info;

		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			ended(pid);
		now = time(NULL);
		for (int i = 0; i < count; i++) {
			if (services[i].pid == 0 && services[i].again && services[i].again <= now)
				start(&services[i]);
			waiting |= services[i].again != 0;
		}
		wait = waiting ? &tick : NULL;
		int sig = sigtimedwait(&all, &info, wait);
		if (sig < 0 || sig == SIGCHLD)
			continue;
		// Who has no number here is outside: no process of the machine ends it, or makes it do anything.
		if (info.si_pid != 0)
			continue;
		if (sig == SIGHUP)
			for (int i = 0; i < count; i++)
				if (services[i].pid > 0)
					kill(services[i].pid, SIGHUP);
		if (sig == SIGUSR2)
			for (int i = 0; i < count; i++)
				if (services[i].zoned && services[i].pid > 0) {
					services[i].anew = 1;
					kill(services[i].pid, SIGTERM);
				}
		if (sig == SIGUSR1)
			run_asked("/run/systemd/asked");
		if (sig == SIGTERM || sig == SIGINT || sig == SIGPWR) {
			kill(-1, SIGTERM);
			return 0;
		}
	}
}
