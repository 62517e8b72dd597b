// What nothing in a door may ask the kernel for, beside what the engine's own filter forbids. A door has CAP_SYS_ADMIN for
// one thing: a session's sshd enters the network of its pot.
#ifndef CAGE_H
#define CAGE_H

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define CAGE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define CAGE_ARCH AUDIT_ARCH_AARCH64
#else
#error "the door is built for amd64 and arm64"
#endif

#define CAGE_NAMESPACES (CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP)
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define GIVE(what) BPF_STMT(BPF_RET | BPF_K, (what))
#define REFUSE GIVE(SECCOMP_RET_ERRNO | EPERM)
#define NO(name) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##name, 0, 1), REFUSE

static int cage(void) {
	struct sock_filter rules[] = {
		LOAD(arch),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CAGE_ARCH, 1, 0),
		REFUSE,
		LOAD(nr),
		// The x32 numbers of amd64.
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1),
		REFUSE,
		// clone3's flags are in memory, where a filter can't look; without it the C library takes clone.
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 435, 0, 1),
		GIVE(SECCOMP_RET_ERRNO | ENOSYS),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_clone, 0, 4),
		LOAD(args[0]),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CAGE_NAMESPACES, 0, 1),
		REFUSE,
		GIVE(SECCOMP_RET_ALLOW),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_setns, 0, 4),
		LOAD(args[1]),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CLONE_NEWNET, 0, 1),
		GIVE(SECCOMP_RET_ALLOW),
		REFUSE,
		NO(mount), NO(umount2), NO(pivot_root), NO(unshare), NO(bpf), NO(perf_event_open), NO(ptrace), NO(process_vm_readv),
		NO(process_vm_writev), NO(kcmp), NO(keyctl), NO(add_key), NO(request_key), NO(init_module), NO(finit_module),
		NO(delete_module), NO(kexec_load), NO(open_by_handle_at), NO(quotactl), NO(swapon), NO(swapoff), NO(reboot),
		NO(sethostname), NO(setdomainname), NO(acct), NO(syslog), NO(userfaultfd), NO(fanotify_init), NO(lookup_dcookie),
		NO(vhangup), NO(mknodat), NO(personality),
		// io_uring_setup, _enter, _register, open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, pidfd_getfd,
		// process_madvise, mount_setattr: older headers don't have them all.
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 425, 0, 2),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 433, 1, 0),
		REFUSE,
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 438, 0, 1),
		REFUSE,
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 440, 0, 1),
		REFUSE,
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 442, 0, 1),
		REFUSE,
		GIVE(SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof rules / sizeof rules[0], .filter = rules};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

#endif
