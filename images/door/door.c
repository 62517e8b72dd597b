// The first process of a door: for each connection that the node hands over, it starts the system's own sshd in inetd
// mode, and tells the node how that ended. When the node is gone, so is the door.
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "cage.h"
#include "node.h"

enum { max_arguments = 64, first_uid = 10000, last_uid = 59999 };

static pid_t running[last_uid - first_uid + 1]; // by uid

static void start(const char *path, char *field, const char *end, const int *fds) {
	char *uid = next_field(field, end);
	long number = uid == NULL ? 0 : atol(uid);
	if (number < first_uid || number > last_uid || running[number - first_uid] != 0)
		return;
	char *argv[max_arguments + 2] = {"/usr/sbin/sshd"};
	int argc = 1;
	for (char *a = next_field(uid, end); a != NULL && argc < max_arguments; a = next_field(a, end))
		argv[argc++] = a;
	char socket_variable[256], uid_variable[64];
	snprintf(socket_variable, sizeof socket_variable, "DOOR_SOCKET=%s", path);
	snprintf(uid_variable, sizeof uid_variable, "DOOR_UID=%ld", number);
	char *env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", socket_variable, uid_variable, NULL};
	pid_t pid = fork();
	if (pid == 0) {
		sigset_t none;
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		setsid();
		// When the door's memory is used up, an sshd goes, and not this process with all of them.
		int oom = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
		if (oom >= 0 && write(oom, "500", 3) < 0)
			_exit(126);
		if (dup2(fds[0], 0) < 0 || dup2(fds[0], 1) < 0 || dup2(fds[1], 2) < 0)
			_exit(126);
		execve(argv[0], argv, env);
		_exit(127);
	}
	running[number - first_uid] = pid < 0 ? 0 : pid;
	if (pid < 0)
		dprintf(fds[1], "door: fork: %s\n", strerror(errno));
}

static void told(int node, long uid, int status) {
	struct message m;
	message_start(&m, 128);
	message_add(&m, "exit");
	message_number(&m, uid);
	message_number(&m, status);
	node_send(node, &m, NULL, 0);
	message_end(&m);
}

// reap tells of each sshd that has ended, and forgets what else has: what they left behind is this process's child.
static void reap(int node) {
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (long i = 0; i <= last_uid - first_uid; i++)
			if (running[i] == pid) {
				running[i] = 0;
				told(node, first_uid + i, status);
			}
}

static void end(char *field, const char *last) {
	char *uid = next_field(field, last);
	long number = uid == NULL ? 0 : atol(uid);
	if (number >= first_uid && number <= last_uid && running[number - first_uid] > 0)
		kill(-running[number - first_uid], SIGKILL);
}

int main(int argc, char **argv) {
	if (argc != 2) {
		fprintf(stderr, "usage: door SOCKET\n");
		return 2;
	}
	const char *path = argv[1];
	sigset_t watched;
	sigemptyset(&watched);
	sigaddset(&watched, SIGCHLD);
	sigaddset(&watched, SIGTERM);
	sigaddset(&watched, SIGINT);
	sigprocmask(SIG_BLOCK, &watched, NULL);
	int signals = signalfd(-1, &watched, SFD_CLOEXEC);
	int node = node_connect(path);
	if (signals < 0 || node < 0 || cage() < 0) {
		fprintf(stderr, "door: %s: %s\n", path, strerror(errno));
		return 1;
	}
	struct message hello;
	message_start(&hello, 16);
	message_add(&hello, "door");
	if (node_send(node, &hello, NULL, 0) < 0)
		return 1;
	message_end(&hello);
	static char buf[64 << 10];
	struct pollfd wait[] = {{.fd = node, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
	for (;;) {
		if (poll(wait, 2, -1) < 0 && errno != EINTR)
			return 1;
		if (wait[1].revents & POLLIN) {
			struct signalfd_siginfo s;
			if (read(signals, &s, sizeof s) == sizeof s && s.ssi_signo != SIGCHLD)
				return 0;
			reap(node);
		}
		if (wait[0].revents & (POLLIN | POLLHUP | POLLERR)) {
			int fds[2], n = 2;
			ssize_t got = node_receive(node, buf, sizeof buf, fds, &n);
			if (got <= 0)
				return 0;
			if (strcmp(buf, "start") == 0 && n == 2)
				start(path, buf, buf + got, fds);
			else if (strcmp(buf, "kill") == 0)
				end(buf, buf + got);
			while (n > 0)
				close(fds[--n]);
		}
	}
}
