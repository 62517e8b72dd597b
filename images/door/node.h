// How what runs in a door speaks to the node: packets over a unix socket, each of fields that end with a zero byte,
// the first of which names the message; descriptors go beside them.
#ifndef NODE_H
#define NODE_H

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { max_message = 192 << 10, max_descriptors = 3 };

struct message {
	char *data;
	size_t size, room;
	int bad; // something did not fit
};

static void message_start(struct message *m, size_t room) {
	m->data = malloc(room);
	m->size = 0;
	m->room = room;
	m->bad = m->data == NULL;
}

static void message_add(struct message *m, const char *field) {
	size_t n = strlen(field) + 1;
	if (m->bad || n > m->room - m->size) {
		m->bad = 1;
		return;
	}
	memcpy(m->data + m->size, field, n);
	m->size += n;
}

__attribute__((unused)) static void message_number(struct message *m, unsigned long n) {
	char text[24];
	snprintf(text, sizeof text, "%lu", n);
	message_add(m, text);
}

// message_end forgets a message, whose bytes may be a password.
static void message_end(struct message *m) {
	if (m->data != NULL) {
		explicit_bzero(m->data, m->room);
		free(m->data);
		m->data = NULL;
	}
}

static int node_connect(const char *path) {
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	if (path == NULL || strlen(path) >= sizeof a.sun_path)
		return -1;
	strcpy(a.sun_path, path);
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (s < 0)
		return -1;
	int most = max_message + 4096;
	setsockopt(s, SOL_SOCKET, SO_SNDBUF, &most, sizeof most);
	while (connect(s, (struct sockaddr *)&a, sizeof a) < 0) {
		if (errno == EINTR)
			continue;
		close(s);
		return -1;
	}
	return s;
}

static int node_send(int s, const struct message *m, const int *fds, int n) {
	if (m->bad)
		return -1;
	union {
		char buf[CMSG_SPACE(max_descriptors * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec io = {.iov_base = m->data, .iov_len = m->size};
	struct msghdr h = {.msg_iov = &io, .msg_iovlen = 1};
	if (n > 0) {
		h.msg_control = control.buf;
		h.msg_controllen = CMSG_SPACE(n * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	for (;;) {
		if (sendmsg(s, &h, MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno != EINTR)
			return -1;
	}
}

// node_receive reads a message into buf, and its descriptors into fds, of which *n are wanted at most and come. It
// returns the message's size; 0 where the node has gone, -1 where something is wrong.
static ssize_t node_receive(int s, char *buf, size_t room, int *fds, int *n) {
	union {
		char buf[CMSG_SPACE(max_descriptors * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec io = {.iov_base = buf, .iov_len = room - 1};
	struct msghdr h = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control.buf, .msg_controllen = sizeof control.buf};
	ssize_t got;
	while ((got = recvmsg(s, &h, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
		;
	int most = n == NULL ? 0 : *n, have = 0;
	if (got >= 0) {
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c != NULL; c = CMSG_NXTHDR(&h, c)) {
			if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
				continue;
			int count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			for (int i = 0; i < count; i++) {
				int fd;
				memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
				if (have < most)
					fds[have++] = fd;
				else
					close(fd);
			}
		}
	}
	if (n != NULL)
		*n = have;
	if (got > 0 && (h.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
		while (have > 0)
			close(fds[--have]);
		return -1;
	}
	if (got >= 0)
		buf[got] = 0;
	return got;
}

// next_field returns the field behind one, or NULL.
__attribute__((unused)) static char *next_field(char *field, const char *end) {
	if (field == NULL)
		return NULL;
	field += strlen(field) + 1;
	return field < end ? field : NULL;
}

#endif
