// The name service of a door: every account that an attacker may name exists, so that sshd hands over each password as it
// was typed. It has a user id that is its connection's alone, root's too: whoever breaks out of an sshd is nobody.
#define _GNU_SOURCE
#include <errno.h>
#include <nss.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

enum { max_name = 128 };

enum nss_status _nss_door_getpwnam_r(const char *name, struct passwd *pw, char *buf, size_t room, int *err);

static int possible(const char *name) {
	size_t n = strlen(name);
	if (n == 0 || n > max_name || strcmp(name, "sshd") == 0 || strcmp(name, "_door") == 0)
		return 0;
	for (; *name != 0; name++)
		if ((unsigned char)*name < ' ' || *name == ':' || *name == '/' || *name == 0x7f)
			return 0;
	return 1;
}

enum nss_status _nss_door_getpwnam_r(const char *name, struct passwd *pw, char *buf, size_t room, int *err) {
	static const char shell[] = "/usr/lib/door/seat";
	const char *uid = getenv("DOOR_UID");
	if (uid == NULL || !possible(name)) {
		*err = ENOENT;
		return NSS_STATUS_NOTFOUND;
	}
	size_t n = strlen(name) + 1;
	if (room < n + sizeof shell + 4) {
		*err = ERANGE;
		return NSS_STATUS_TRYAGAIN;
	}
	memcpy(buf, name, n);
	pw->pw_name = buf;
	buf += n;
	memcpy(buf, shell, sizeof shell);
	pw->pw_shell = buf;
	buf += sizeof shell;
	memcpy(buf, "x\0/", 4);
	pw->pw_passwd = buf;
	pw->pw_gecos = buf + 1;
	pw->pw_dir = buf + 2;
	pw->pw_uid = pw->pw_gid = strtoul(uid, NULL, 10);
	return NSS_STATUS_SUCCESS;
}
