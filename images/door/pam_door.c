// The PAM module of a door: the node decides who gets in, and a session joins the network of its pot.
#define _GNU_SOURCE
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <security/pam_ext.h>
#include <security/pam_modules.h>

#include "node.h"

// What the door's first process said of the connection. sshd clears the environment before it has a conversation.
static char door_socket[128], door_uid[16];

__attribute__((constructor)) static void remember(void) {
	const char *path = getenv("DOOR_SOCKET"), *uid = getenv("DOOR_UID");
	if (path != NULL && uid != NULL && strlen(path) < sizeof door_socket && strlen(uid) < sizeof door_uid) {
		strcpy(door_socket, path);
		strcpy(door_uid, uid);
	}
}

enum { usual_delay = 2000000 }; // microseconds, as pam_unix has it

// ask sends a message and returns the answer's first field after the name, which has to be "ok" or "no".
static int ask(const struct message *m, unsigned *delay, int *fd) {
	char buf[128];
	int n = fd == NULL ? 0 : 1, ok = -1;
	int node = node_connect(door_socket);
	if (node < 0)
		return -1;
	if (node_send(node, m, NULL, 0) == 0) {
		ssize_t got = node_receive(node, buf, sizeof buf, fd, &n);
		if (got > 0) {
			ok = strcmp(buf, "ok") == 0;
			char *value = next_field(buf, buf + got);
			if (delay != NULL && value != NULL)
				*delay = strtoul(value, NULL, 10);
		}
	}
	close(node);
	if (fd != NULL && n == 0)
		return -1;
	return ok;
}

PAM_EXTERN int pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc, const char **argv) {
	(void)flags, (void)argc, (void)argv;
	const char *user = NULL, *password = NULL;
	int err = pam_get_user(pamh, &user, NULL);
	if (err != PAM_SUCCESS)
		return err;
	err = pam_get_authtok(pamh, PAM_AUTHTOK, &password, NULL);
	if (err != PAM_SUCCESS || password == NULL)
		return PAM_AUTH_ERR;
	struct message m;
	message_start(&m, 16 << 10);
	message_add(&m, "auth");
	message_add(&m, door_uid);
	// A conversation with the client has a process of its own below the connection's.
	message_add(&m, getppid() == 1 ? "password" : "keyboard-interactive");
	message_add(&m, user);
	message_add(&m, password);
	unsigned delay = usual_delay;
	int ok = ask(&m, &delay, NULL);
	message_end(&m);
	pam_fail_delay(pamh, delay);
	return ok == 1 ? PAM_SUCCESS : PAM_AUTH_ERR;
}

PAM_EXTERN int pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv) {
	(void)pamh, (void)flags, (void)argc, (void)argv;
	return PAM_SUCCESS;
}

PAM_EXTERN int pam_sm_acct_mgmt(pam_handle_t *pamh, int flags, int argc, const char **argv) {
	(void)pamh, (void)flags, (void)argc, (void)argv;
	return PAM_SUCCESS;
}

// drop_admin gives up CAP_SYS_ADMIN, which has served its only purpose.
static int drop_admin(void) {
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[2];
	if (syscall(SYS_capget, &head, caps) < 0)
		return -1;
	unsigned bit = 1u << CAP_SYS_ADMIN;
	caps[0].effective &= ~bit;
	caps[0].permitted &= ~bit;
	caps[0].inheritable &= ~bit;
	return syscall(SYS_capset, &head, caps);
}

PAM_EXTERN int pam_sm_open_session(pam_handle_t *pamh, int flags, int argc, const char **argv) {
	(void)flags, (void)argc, (void)argv;
	char variable[sizeof door_socket + 16];
	struct message m;
	message_start(&m, 64);
	message_add(&m, "open");
	message_add(&m, door_uid);
	int network = -1;
	int ok = ask(&m, NULL, &network);
	message_end(&m);
	if (ok == 1 && setns(network, CLONE_NEWNET) < 0)
		ok = 0;
	if (network >= 0)
		close(network);
	snprintf(variable, sizeof variable, "DOOR_SOCKET=%s", door_socket);
	if (ok != 1 || drop_admin() < 0 || pam_putenv(pamh, variable) != PAM_SUCCESS)
		return PAM_SESSION_ERR;
	return PAM_SUCCESS;
}

PAM_EXTERN int pam_sm_close_session(pam_handle_t *pamh, int flags, int argc, const char **argv) {
	(void)pamh, (void)flags, (void)argc, (void)argv;
	return PAM_SUCCESS;
}
