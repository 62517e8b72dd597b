// Attacks on who answers uname(2), sysinfo(2) and reads of /proc for a pot.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *asked(void *where)
{
	return syscall(SYS_uname, where) ? strerrorname_np(errno) : "ok";
}

static int bad_pointers(void)
{
	char *none = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = open("/proc/meminfo", O_RDONLY);
	char *covered = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	int passwd = open("/etc/passwd", O_RDONLY);
	char *shared = mmap(NULL, 4096, PROT_READ, MAP_SHARED, passwd, 0);

	char *two = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(two + 4096, 4096);

	printf("null %s\n", asked(NULL));
	printf("kernel %s\n", asked((void *)0xffffffff81000000UL));
	printf("last %s\n", asked((void *)~0UL));
	printf("noncanonical %s\n", asked((void *)0x8000000000000000UL));
	printf("unmapped %s\n", asked(two + 4096));
	printf("straddling %s\n", asked(two + 4000));
	if (asked(none)[0] != 'E') // the node writes to it as a debugger does: to the program's own memory
		mprotect(none, 4096, PROT_READ), printf("forbidden %s\n", strcmp(none, "Linux") ? "elsewhere" : "EFAULT");
	else
		puts("forbidden EFAULT");
	printf("shared-readonly %s\n", asked(shared));
	printf("covered %s\n", covered == MAP_FAILED ? "EFAULT" : asked(covered));
	printf("good %s\n", asked(two));
	return 0;
}

#ifdef __x86_64__
static sigjmp_buf before_call32;

static void no_call32(int sig) // kernels without 32-bit programs end who asks
{
	siglongjmp(before_call32, sig);
}
#endif

static int other_ways(void)
{
	struct utsname u;
	pid_t pid = vfork();
	if (pid == 0) {
		uname(&u); // the parent's memory
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	printf("vfork %s\n", u.release);
#ifdef __x86_64__
	char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	volatile long got = -ENOSYS;
	signal(SIGSEGV, no_call32);
	if (!sigsetjmp(before_call32, 1))
		__asm__ volatile("int $0x80" : "=a"(got) : "a"(122), "b"(low) : "memory", "r8", "r9", "r10", "r11");
	printf("int80 %s\n", got == -ENOSYS ? u.release : got ? strerrorname_np(-got) : low + 130);
#else
	printf("int80 %s\n", u.release);
#endif
	memset(&u, 0, sizeof u);
	if (chroot("/var/empty") && chroot("/mnt"))
		return 1;
	uname(&u);
	printf("chroot %s\n", u.release);
	return 0;
}

static void *ask_on(void *until)
{
	struct utsname u;
	struct sysinfo s;
	while (time(NULL) < *(time_t *)until) {
		uname(&u);
		sysinfo(&s);
	}
	return NULL;
}

// asks from many threads of many processes, which are killed while they ask
static int flood(int seconds)
{
	time_t until = time(NULL) + seconds;
	while (time(NULL) < until) {
		pid_t pids[8];
		for (int i = 0; i < 8; i++) {
			pids[i] = fork();
			if (pids[i] == 0) {
				pthread_t t;
				for (int k = 0; k < 6; k++)
					pthread_create(&t, NULL, ask_on, &until);
				ask_on(&until);
				_exit(0);
			}
		}
		usleep(100000);
		for (int i = 0; i < 8; i++)
			if (pids[i] > 0) {
				kill(pids[i], SIGKILL);
				waitpid(pids[i], NULL, 0);
			}
	}
	puts("done");
	return 0;
}

// opens a covered file as often as it can, and reads and looks at it all the time
static int opens(int seconds)
{
	time_t until = time(NULL) + seconds;
	int most = 0;
	for (int i = 0; i < 16; i++)
		if (fork() == 0) {
			int n = 0, fd, last = -1;
			while (time(NULL) < until && (fd = open("/proc/meminfo", O_RDONLY)) >= 0)
				n++, last = fd;
			char path[64], b[4096];
			snprintf(path, sizeof path, "/tmp/opened.%d", i);
			FILE *f = fopen(path, "w");
			if (f) {
				fprintf(f, "%d\n", n);
				fclose(f);
			}
			struct stat st;
			while (time(NULL) < until) {
				open("/proc/loadavg", O_RDONLY);
				stat("/proc/version", &st);
				truncate("/proc/version", 0);
				chmod("/proc/meminfo", 0777);
				pread(last, b, sizeof b, 0);
				access("/proc/cmdline", R_OK);
			}
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
	for (int i = 0; i < 16; i++) {
		char path[64];
		int n = 0;
		snprintf(path, sizeof path, "/tmp/opened.%d", i);
		FILE *f = fopen(path, "r");
		if (f && fscanf(f, "%d", &n) == 1)
			most += n;
		if (f)
			fclose(f);
	}
	printf("%d\n", most);
	return 0;
}

#ifdef __x86_64__
// call has the first process make a system call
static long call(struct user_regs_struct saved, long nr, long a, long b, long c)
{
	struct user_regs_struct r = saved;
	int status;
	r.rip -= 2; // to where it made the one that it waits in
	r.orig_rax = -1;
	r.rax = nr, r.rdi = a, r.rsi = b, r.rdx = c;
	if (ptrace(PTRACE_SETREGS, 1, 0, &r) || ptrace(PTRACE_SINGLESTEP, 1, 0, 0))
		return -1;
	if (waitpid(1, &status, __WALL) < 0 || ptrace(PTRACE_GETREGS, 1, 0, &r))
		return -1;
	return r.rax;
}

// takes questions away from the node, by the first process's own descriptor, and answers none
static int steal(void)
{
	struct user_regs_struct saved;
	char link[64], path[300];
	int listener = -1, got = 0;
	DIR *d = opendir("/proc/1/fd");
	for (struct dirent *e; d && (e = readdir(d));) {
		snprintf(path, sizeof path, "/proc/1/fd/%s", e->d_name);
		ssize_t n = readlink(path, link, sizeof link - 1);
		if (n > 0 && (link[n] = 0, strstr(link, "seccomp notify")))
			listener = atoi(e->d_name);
	}
	if (listener < 0 || ptrace(PTRACE_ATTACH, 1, 0, 0)) {
		printf("no: %d %s\n", listener, strerrorname_np(errno));
		return 1;
	}
	waitpid(1, NULL, __WALL);
	ptrace(PTRACE_GETREGS, 1, 0, &saved);
	uint64_t at = (saved.rsp - 512) & ~15UL;
	int out = open("/tmp/stolen", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	for (;;) {
		for (int i = 0; i < 96; i += 8)
			if (ptrace(PTRACE_POKEDATA, 1, at + i, 0)) {
				printf("no: %s\n", strerrorname_np(errno));
				return 1;
			}
		if (call(saved, SYS_ioctl, listener, 0xc0502100, at) == 0) {
			char n[16];
			pwrite(out, n, snprintf(n, sizeof n, "%d\n", ++got), 0);
		}
	}
}
#else
static int steal(void) { return puts("no: not for this processor"), 1; }
#endif

int main(int argc, char **argv)
{
	int seconds = argc > 2 ? atoi(argv[2]) : 3;
	if (argc < 2)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(argv[1], "pointers"))
		return bad_pointers();
	if (!strcmp(argv[1], "ways"))
		return other_ways();
	if (!strcmp(argv[1], "flood"))
		return flood(seconds);
	if (!strcmp(argv[1], "opens"))
		return opens(seconds);
	if (!strcmp(argv[1], "steal"))
		return steal();
	return 2;
}
