// The shell of all accounts in a door: it hands its input and outputs to the node, which joins them with a program in the
// attacker's pot, and ends as that does. It reads nothing that the attacker sends.
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <termios.h>

#include "node.h"

extern char **environ;

static const struct {
	int number;
	const char *name;
} passed[] = {{SIGHUP, "HUP"}, {SIGINT, "INT"}, {SIGQUIT, "QUIT"}, {SIGTERM, "TERM"}, {SIGUSR1, "USR1"}, {SIGUSR2, "USR2"}, {SIGALRM, "ALRM"}};
static const struct {
	int number;
	const char *name;
} deadly[] = {{SIGABRT, "ABRT"}, {SIGALRM, "ALRM"}, {SIGFPE, "FPE"}, {SIGHUP, "HUP"}, {SIGILL, "ILL"}, {SIGINT, "INT"},
	{SIGKILL, "KILL"}, {SIGPIPE, "PIPE"}, {SIGQUIT, "QUIT"}, {SIGSEGV, "SEGV"}, {SIGTERM, "TERM"}, {SIGUSR1, "USR1"}, {SIGUSR2, "USR2"}};

enum { count_passed = sizeof passed / sizeof passed[0], count_deadly = sizeof deadly / sizeof deadly[0] };

// ours are variables that sshd sets itself; all others come from the client.
static int ours(const char *variable) {
	static const char *const names[] = {"USER=", "LOGNAME=", "HOME=", "PATH=", "SHELL=", "MAIL=", "TERM=", "SSH_CLIENT=", "SSH_CONNECTION=",
		"SSH_TTY=", "SSH_AUTH_SOCK=", "SSH_ORIGINAL_COMMAND=", "DISPLAY=", "DOOR_SOCKET=", "KRB5CCNAME=", "MOTD_SHOWN="};
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strncmp(variable, names[i], strlen(names[i])) == 0)
			return 1;
	return 0;
}

static void add_terminal(struct message *m, int is_terminal) {
	struct winsize w = {0};
	struct termios t = {0};
	char cc[2 * NCCS + 1] = "";
	if (is_terminal && ioctl(0, TIOCGWINSZ, &w) == 0 && tcgetattr(0, &t) == 0)
		for (int i = 0; i < NCCS; i++)
			sprintf(cc + 2 * i, "%02x", t.c_cc[i]);
	const char *term = getenv("TERM");
	message_add(m, is_terminal ? "tty" : "");
	message_add(m, is_terminal && term != NULL ? term : "");
	unsigned long numbers[] = {w.ws_col, w.ws_row, w.ws_xpixel, w.ws_ypixel, t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag};
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
		message_number(m, numbers[i]);
	message_add(m, cc);
	if (is_terminal) { // from here on the pot's terminal does what a terminal does
		cfmakeraw(&t);
		tcsetattr(0, TCSANOW, &t);
	}
}

static void tell(int node, const char *what, const char *value) {
	struct message m;
	message_start(&m, 64);
	message_add(&m, what);
	message_add(&m, value);
	node_send(node, &m, NULL, 0);
	message_end(&m);
}

static void tell_window(int node) {
	struct winsize w;
	if (ioctl(0, TIOCGWINSZ, &w) < 0)
		return;
	struct message m;
	message_start(&m, 128);
	message_add(&m, "window");
	message_number(&m, w.ws_col);
	message_number(&m, w.ws_row);
	message_number(&m, w.ws_xpixel);
	message_number(&m, w.ws_ypixel);
	node_send(node, &m, NULL, 0);
	message_end(&m);
}

static void on_signal(int node, int signals) {
	struct signalfd_siginfo s;
	if (read(signals, &s, sizeof s) != sizeof s)
		return;
	if (s.ssi_signo == SIGWINCH)
		tell_window(node);
	for (int i = 0; i < count_passed; i++)
		if (passed[i].number == (int)s.ssi_signo)
			tell(node, "signal", passed[i].name);
}

// die ends as the program in the pot did.
static void die(const char *name) {
	struct rlimit none = {0, 0};
	setrlimit(RLIMIT_CORE, &none);
	for (int i = 0; i < count_deadly; i++)
		if (strcmp(deadly[i].name, name) == 0) {
			sigset_t all;
			sigemptyset(&all);
			signal(deadly[i].number, SIG_DFL);
			sigprocmask(SIG_SETMASK, &all, NULL);
			kill(getpid(), deadly[i].number);
		}
	_exit(255);
}

// agent gives the node a connection to the client's agent, which sshd listens for as this account.
static void agent(int node) {
	int fd = -1;
	const char *path = getenv("SSH_AUTH_SOCK");
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	if (path != NULL && strlen(path) < sizeof a.sun_path) {
		strcpy(a.sun_path, path);
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
			close(fd);
			fd = -1;
		}
	}
	struct message m;
	message_start(&m, 16);
	message_add(&m, "agent");
	node_send(node, &m, &fd, fd >= 0);
	message_end(&m);
	if (fd >= 0)
		close(fd);
}

static int open_session(int argc, char **argv) {
	int node = node_connect(getenv("DOOR_SOCKET"));
	if (node < 0)
		return -1;
	int command = argc >= 3 && strcmp(argv[1], "-c") == 0;
	struct message m;
	message_start(&m, max_message);
	message_add(&m, "session");
	message_add(&m, command ? "exec" : "shell");
	message_add(&m, command ? argv[2] : "");
	add_terminal(&m, isatty(0));
	message_add(&m, getenv("SSH_AUTH_SOCK") != NULL ? "agent" : "");
	for (char **e = environ; *e != NULL; e++)
		if (!ours(*e))
			message_add(&m, *e);
	int fds[] = {0, 1, 2};
	if (node_send(node, &m, fds, 3) < 0)
		return -1;
	message_end(&m);
	if (!isatty(0)) { // pipes: their ends are the node's to close
		int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
		for (int i = 0; i < 3; i++)
			if (nothing < 0 || dup2(nothing, i) < 0)
				return -1;
	}
	return node;
}

int main(int argc, char **argv) {
	sigset_t watched;
	sigemptyset(&watched);
	sigaddset(&watched, SIGWINCH);
	for (int i = 0; i < count_passed; i++)
		sigaddset(&watched, passed[i].number);
	sigprocmask(SIG_BLOCK, &watched, NULL);
	int signals = signalfd(-1, &watched, SFD_CLOEXEC);
	int node = open_session(argc, argv);
	if (signals < 0 || node < 0)
		return 255;
	struct pollfd wait[] = {{.fd = node, .events = POLLIN}, {.fd = signals, .events = POLLIN}, {.fd = isatty(0) ? 0 : -1, .events = 0}};
	for (;;) {
		if (poll(wait, 3, -1) < 0 && errno != EINTR)
			return 255;
		if (wait[1].revents & POLLIN)
			on_signal(node, signals);
		if (wait[0].revents & (POLLIN | POLLHUP | POLLERR)) {
			static char buf[256];
			ssize_t got = node_receive(node, buf, sizeof buf, NULL, NULL);
			if (got <= 0)
				return 255;
			char *value = next_field(buf, buf + got);
			if (strcmp(buf, "agent") == 0)
				agent(node);
			else if (strcmp(buf, "exit") == 0 && value != NULL)
				return atoi(value);
			else if (strcmp(buf, "signal") == 0 && value != NULL)
				die(value);
		}
		if (wait[2].revents & (POLLHUP | POLLERR | POLLNVAL)) { // the terminal is gone
			tell(node, "gone", "");
			wait[2].fd = -1;
		}
	}
}
