/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What runs in pots, and what it connects to.
 *
 * The kernel lends some of the functions used here, those that read its memory and user space's, to programs under the
 * GPL only, so this file and kernel.h may be had under the GPL, version 2, besides the MIT licence; that is the "Dual
 * MIT/GPL" below. The rest of Kokkuri is under the Apache licence, version 2.0, as its LICENSE says.
 *
 * Raw tracepoints only: they are everywhere where eBPF is. A task of no pot costs one look at its pid's level, and one
 * in the table of pots where it is in any container. */
#include "kernel.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define LEVELS 4      /* of pid namespaces below the machine's in which a pot's may lie */
#define COMPONENTS 24 /* of a path */
#define MOUNTS 3      /* one on the other */
#define COMPONENT 64  /* bytes of one; longer ones are cut */
#define PATH (COMPONENTS * COMPONENT)
#define NAME 256
#define ARGS 2048

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define TCP_SYN_SENT 2
#define TCP_LISTEN 10
#define SIGNAL_GROUP_EXIT 0x4

#define SECOND 1000000000ULL

enum kind {
	EXECUTED = 1,
	EXITED = 2,
	CONNECTED = 3,
	LISTENED = 4,
};

/* Records, as record.go reads them. */
struct head {
	__u32 kind;
	__u32 pot; /* as user space numbers it */
	__u64 at;  /* CLOCK_MONOTONIC, nanoseconds */
	__u32 pid; /* as the machine counts */
	__u32 inside; /* the same, as the pot counts */
	__u32 parent; /* as the pot counts; 0 where it is outside */
	__u32 uid;
};

struct exec {
	struct head head;
	__u32 links;    /* to the file; 0: it is deleted, or never had a name */
	__u32 args_len; /* as they are; what is more than ARGS is not here */
	__u32 exe_len;  /* how many components exe has, each of COMPONENT bytes, the last one first */
	__u32 cwd_len;  /* the same of cwd */
	char filename[NAME]; /* as it was asked for */
	char interp[NAME];   /* what runs it, where it is a script; else the same */
	char args[ARGS];     /* each ends with a zero */
	char exe[PATH];
	char cwd[PATH];
};

struct exit {
	struct head head;
	__u32 code; /* as wait(2) tells it */
	__u32 unused;
	__u64 since; /* when it was executed */
};

struct sockname {
	struct head head;
	__u32 family;
	__u32 port;
	__u8 addr[16];
};

/* What one kind of event of a pot may be, a second. */
struct rate {
	__u64 since;
	__u32 count;
	__u32 unused;
	__u64 lost;
};

struct pot {
	__u32 number;
	__u32 unused;
	struct rate execs;
	struct rate socks;
};

const volatile __u32 most_execs = 256;
const volatile __u32 most_socks = 256;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32); /* inode number of a pid namespace */
	__type(value, struct pot);
} pots SEC(".maps");

/* Processes whose start was told: their end is told as well. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, __u32);
	__type(value, __u64);
} started SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct exec);
} scratch SEC(".maps");

static __always_inline struct upid upid_at(struct pid *pid, __u32 level)
{
	struct upid out = {};
	const char *at = (const char *)pid + bpf_core_field_offset(struct pid, numbers) + level * bpf_core_type_size(struct upid);
	struct upid *u = (struct upid *)at;

	out.nr = BPF_CORE_READ(u, nr);
	out.ns = BPF_CORE_READ(u, ns);
	return out;
}

/* pot_of finds the pot of a task, in which pid namespaces of the attacker's may be nested. */
static __always_inline struct pot *pot_of(struct task_struct *task, __u32 *level)
{
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	__u32 deepest = BPF_CORE_READ(pid, level);

	for (__u32 i = 1; i <= LEVELS && i <= deepest; i++) {
		struct pid_namespace *ns = upid_at(pid, i).ns;
		__u32 inum = BPF_CORE_READ(ns, ns.inum);
		struct pot *pot = bpf_map_lookup_elem(&pots, &inum);

		if (pot) {
			*level = i;
			return pot;
		}
	}
	return 0;
}

static __always_inline __u32 number_of(struct task_struct *task, __u32 level)
{
	struct pid *pid = BPF_CORE_READ(task, thread_pid);

	if (!pid || BPF_CORE_READ(pid, level) < level)
		return 0;
	return upid_at(pid, level).nr;
}

/* permitted counts an event of a pot. Processors that count at once may let one or two more pass. */
static __always_inline bool permitted(struct rate *r, __u32 most, __u64 now)
{
	if (now - r->since >= SECOND) {
		r->since = now;
		r->count = 0;
	}
	if (r->count >= most) {
		__sync_fetch_and_add(&r->lost, 1);
		return 0;
	}
	__sync_fetch_and_add(&r->count, 1);
	return 1;
}

static __always_inline void fill(struct head *h, __u32 kind, struct pot *pot, struct task_struct *task, __u32 level, __u64 now)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);

	h->kind = kind;
	h->pot = pot->number;
	h->at = now;
	h->pid = BPF_CORE_READ(task, tgid);
	h->inside = number_of(leader, level);
	h->parent = number_of(BPF_CORE_READ(leader, real_parent, group_leader), level);
	h->uid = BPF_CORE_READ(task, cred, uid.val);
}

/* walk writes the names on the way from a file up to the root of the mounts, the last one first, to exe or to cwd of
 * the scratch record. Its pointers are numbers, so that the verifier looks at it once and not at each call. */
__noinline __u32 walk(__u64 at, __u64 in, __u32 to_cwd)
{
	struct dentry *dentry = (struct dentry *)at;
	struct vfsmount *vfs = (struct vfsmount *)in;
	__u32 zero = 0, n;
	struct exec *e = bpf_map_lookup_elem(&scratch, &zero);
	char *out;

	if (!e)
		return 0;
	out = to_cwd ? e->cwd : e->exe;
	for (n = 0; n < COMPONENTS; n++) {
		struct dentry *parent;

		for (int hop = 0; hop < MOUNTS; hop++) { /* mounted on the root of another */
			struct mount *m = (struct mount *)((char *)vfs - bpf_core_field_offset(struct mount, mnt));
			struct mount *above;

			if (dentry != BPF_CORE_READ(vfs, mnt_root))
				break;
			above = BPF_CORE_READ(m, mnt_parent);
			if (m == above)
				return n;
			dentry = BPF_CORE_READ(m, mnt_mountpoint);
			vfs = (struct vfsmount *)((char *)above + bpf_core_field_offset(struct mount, mnt));
		}
		parent = BPF_CORE_READ(dentry, d_parent);
		if (!dentry || (dentry == parent && n > 0))
			return n;
		bpf_probe_read_kernel_str(out + n * COMPONENT, COMPONENT, BPF_CORE_READ(dentry, d_name.name));
		if (dentry == parent)
			return n + 1; /* only ever in memory: its name leads nowhere */
		dentry = parent;
	}
	return n;
}

static __always_inline __u32 walk_path(struct path *from, __u32 to_cwd)
{
	return walk((__u64)BPF_CORE_READ(from, dentry), (__u64)BPF_CORE_READ(from, mnt), to_cwd);
}

SEC("raw_tracepoint/sched_process_exec")
int executed(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx->args[0];
	struct linux_binprm *bprm = (struct linux_binprm *)ctx->args[2];
	__u64 now = bpf_ktime_get_ns();
	__u32 level = 0, zero = 0;
	struct pot *pot = pot_of(task, &level);
	struct exec *e;

	if (!pot || !permitted(&pot->execs, most_execs, now))
		return 0;
	e = bpf_map_lookup_elem(&scratch, &zero);
	if (!e)
		return 0;
	fill(&e->head, EXECUTED, pot, task, level, now);

	struct file *file = BPF_CORE_READ(bprm, file);
	e->links = BPF_CORE_READ(file, f_path.dentry, d_inode, i_nlink);
	e->filename[0] = e->interp[0] = 0;
	bpf_probe_read_kernel_str(e->filename, NAME, BPF_CORE_READ(bprm, filename));
	bpf_probe_read_kernel_str(e->interp, NAME, BPF_CORE_READ(bprm, interp));

	unsigned long begin = BPF_CORE_READ(task, mm, arg_start);
	__u32 len = BPF_CORE_READ(task, mm, arg_end) - begin;
	e->args_len = len;
	if (len > ARGS)
		len = ARGS;
	if (bpf_probe_read_user(e->args, len, (void *)begin))
		e->args_len = 0;

	struct path *exe = (struct path *)((char *)file + bpf_core_field_offset(struct file, f_path));
	struct path *cwd = (struct path *)((char *)BPF_CORE_READ(task, fs) + bpf_core_field_offset(struct fs_struct, pwd));
	e->exe_len = walk_path(exe, 0);
	e->cwd_len = walk_path(cwd, 1);
	if (bpf_ringbuf_output(&records, e, sizeof(*e), 0)) {
		__sync_fetch_and_add(&pot->execs.lost, 1);
		return 0;
	}
	bpf_map_update_elem(&started, &e->head.pid, &now, 0);
	return 0;
}

SEC("raw_tracepoint/sched_process_exit")
int exited(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx->args[0];
	__u32 tgid = BPF_CORE_READ(task, tgid), level = 0;
	struct exit e = {};

	if (BPF_CORE_READ(task, thread_pid, level) == 0 || BPF_CORE_READ(task, signal, live.counter) > 0)
		return 0; /* of no container, or not the last of its threads */
	__u64 *since = bpf_map_lookup_elem(&started, &tgid);
	if (!since)
		return 0;
	e.since = *since;
	bpf_map_delete_elem(&started, &tgid);
	struct pot *pot = pot_of(task, &level);
	if (!pot)
		return 0;
	fill(&e.head, EXITED, pot, task, level, bpf_ktime_get_ns());
	e.code = BPF_CORE_READ(task, exit_code);
	if (BPF_CORE_READ(task, signal, flags) & SIGNAL_GROUP_EXIT)
		e.code = BPF_CORE_READ(task, signal, group_exit_code);
	bpf_ringbuf_output(&records, &e, sizeof(e), 0); /* what is told of its start lasts without it */
	return 0;
}

SEC("raw_tracepoint/inet_sock_set_state")
int sock_state(struct bpf_raw_tracepoint_args *ctx)
{
	const struct sock *sk = (const struct sock *)ctx->args[0];
	int state = (int)ctx->args[2];
	struct task_struct *task;
	struct sockname s = {};
	__u32 level = 0, kind = CONNECTED;

	if (state != TCP_SYN_SENT && state != TCP_LISTEN)
		return 0; /* the others happen while anything runs */
	if (state == TCP_LISTEN)
		kind = LISTENED;
	task = (struct task_struct *)bpf_get_current_task();
	struct pot *pot = pot_of(task, &level);
	__u64 now = bpf_ktime_get_ns();
	if (!pot || !permitted(&pot->socks, most_socks, now))
		return 0;
	fill(&s.head, kind, pot, task, level, now);
	s.family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (kind == LISTENED) {
		s.port = BPF_CORE_READ(sk, __sk_common.skc_num);
	} else {
		s.port = __builtin_bswap16(BPF_CORE_READ(sk, __sk_common.skc_dport));
		if (s.family == AF_INET) {
			__be32 addr = BPF_CORE_READ(sk, __sk_common.skc_daddr);

			__builtin_memcpy(s.addr, &addr, sizeof(addr));
		} else if (s.family == AF_INET6) {
			BPF_CORE_READ_INTO(&s.addr, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr8);
		}
	}
	if (bpf_ringbuf_output(&records, &s, sizeof(s), 0))
		__sync_fetch_and_add(&pot->socks.lost, 1);
	return 0;
}
