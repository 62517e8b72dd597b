// Published ways out of a container, one a name: prints "ok" where it is open, or the error's name. Nothing that
// succeeds does harm, so that each can be tried where it is open.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static char *target; // what the second argument names

static long try_mount(void) { return mount("none", "/mnt", "tmpfs", 0, NULL); }
static long try_bind(void) { return mount("/etc", "/mnt", NULL, MS_BIND, NULL); }
static long try_remount(void) { return mount(NULL, "/sys", NULL, MS_REMOUNT | MS_BIND, NULL); }
static long try_umount(void) { return umount2("/sys", MNT_DETACH); }
static long try_fsopen(void) { return syscall(SYS_fsopen, "tmpfs", 0); }
static long try_open_tree(void) { return syscall(SYS_open_tree, AT_FDCWD, "/", 1); }
static long try_move_mount(void) { return syscall(SYS_move_mount, AT_FDCWD, "/dev/shm", AT_FDCWD, "/mnt", 0); }
static long try_pivot_root(void)
{
	long got = syscall(SYS_pivot_root, "/", "/mnt");
	return got < 0 && (errno == EBUSY || errno == EINVAL) ? 0 : got; // let in, and refused for what it was asked
}
static long try_cgroup_mount(void)
{
	mkdir("/mnt/c", 0700);
	if (!mount("cgroup", "/mnt/c", "cgroup", 0, "none,name=attack"))
		return umount("/mnt/c");
	return mount("cgroup", "/mnt/c", "cgroup2", 0, NULL);
}
static long try_unshare_user(void) { return unshare(CLONE_NEWUSER); }
static long try_unshare_mount(void) { return unshare(CLONE_NEWNS); }
static long try_unshare_net(void) { return unshare(CLONE_NEWNET); }
static long try_unshare_pid(void) { return unshare(CLONE_NEWPID); }
static long try_unshare_ipc(void) { return unshare(CLONE_NEWIPC); }
static long try_unshare_uts(void) { return unshare(CLONE_NEWUTS); }
static long try_unshare_cgroup(void) { return unshare(CLONE_NEWCGROUP); }
static long try_setns(void)
{
	int fd = open("/proc/self/ns/uts", O_RDONLY);
	return fd < 0 ? -1 : setns(fd, 0);
}
static long reap(long pid)
{
	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return pid;
}
static long try_clone_user(void) { return reap(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0)); }
static long try_clone3_net(void)
{
	uint64_t args[11] = { CLONE_NEWNET, 0, 0, 0, SIGCHLD };
	return reap(syscall(SYS_clone3, args, sizeof args));
}
static long try_keyctl(void) { return syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, -3, 1); }
static long try_add_key(void) { return syscall(SYS_add_key, "user", "attack", "x", 1, -3); }
static long try_request_key(void)
{
	long got = syscall(SYS_request_key, "user", "nothing", NULL, -3);
	return got < 0 && errno == ENOKEY ? 0 : got;
}
static long try_bpf(void)
{
	union bpf_attr a = { .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1 };
	return syscall(SYS_bpf, BPF_MAP_CREATE, &a, sizeof a);
}
static long try_perf(void)
{
	struct perf_event_attr a = { .type = PERF_TYPE_SOFTWARE, .size = sizeof a, .config = PERF_COUNT_SW_CPU_CLOCK };
	return syscall(SYS_perf_event_open, &a, 0, -1, -1, 0);
}
static long try_userfaultfd(void) { return syscall(SYS_userfaultfd, O_CLOEXEC); }
static long try_handle(void)
{
	struct { unsigned bytes; int type; char h[8]; } h = { 8, 1, { 2 } };
	long fd = syscall(SYS_open_by_handle_at, AT_FDCWD, &h, O_RDONLY);
	return fd < 0 && errno == ESTALE ? 0 : fd; // asked for, and of no file
}
static long try_write(void) { return open(target, O_WRONLY); }
static long try_read(void)
{
	char b[16];
	int fd = open(target, O_RDONLY | O_NONBLOCK);
	long n = fd < 0 ? -1 : read(fd, b, sizeof b);
	if (n == 0)
		errno = ENODATA;
	return n > 0 ? 0 : -1;
}
static long try_mknod(void)
{
	unlink("/tmp/disk");
	return mknod("/tmp/disk", S_IFBLK | 0600, makedev(8, 0));
}
static long try_device(void) // every device of the machine's disks, memory and FUSE that is there or can be made
{
	glob_t g;
	if (glob("/dev/[svx]d[a-z]*", 0, NULL, &g) == 0 || glob("/dev/{mem,kmsg,fuse,kvm,vsock,vhost*,loop*,dm-*,mapper/*,net/tun,nvme*}", GLOB_BRACE, NULL, &g) == 0)
		return 0;
	errno = ENOENT;
	return -1;
}
static long try_raw(void) { return socket(AF_INET, SOCK_RAW, IPPROTO_ICMP); }
static long try_raw6(void) { return socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6); }
static long try_raw_tcp(void) { return socket(AF_INET, SOCK_RAW, IPPROTO_RAW); }
static long try_packet(void) { return socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)); }
static long try_packet_dgram(void) { return socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_ARP)); }
static long try_vsock(void) { return socket(AF_VSOCK, SOCK_STREAM, 0); }
#ifdef __x86_64__
static void no_call32(int sig) // kernels without 32-bit programs end who asks
{
	(void)sig;
	puts("ENOSYS");
	exit(0);
}
#endif
static long try_vsock32(void) // by the call that 32-bit programs make, whose arguments no filter sees
{
#ifdef __x86_64__
	signal(SIGSEGV, no_call32);
	unsigned *args = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	long got;
	args[0] = AF_VSOCK, args[1] = SOCK_STREAM, args[2] = 0;
	__asm__ volatile("int $0x80" : "=a"(got) : "a"(102), "b"(1), "c"(args) : "memory", "r8", "r9", "r10", "r11");
	errno = -got;
	return got;
#else
	errno = ENOSYS;
	return -1;
#endif
}
static long try_alg(void) { return socket(AF_ALG, SOCK_SEQPACKET, 0); }
static long try_tipc(void) { return socket(AF_TIPC, SOCK_STREAM, 0); }
static long try_bind_device(void) // as DHCP clients do
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq r = { .ifr_name = "lo" };
	r.ifr_flags = IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &r);
}
static long try_iouring(void)
{
	char params[120] = { 0 };
	return syscall(SYS_io_uring_setup, 4, params);
}
static long try_kexec(void) { return syscall(SYS_kexec_load, 0, 0, NULL, 0); } // unloads what is not loaded
static long try_kexec_file(void)
{
	long got = syscall(SYS_kexec_file_load, -1, -1, 0, NULL, 0);
	return got < 0 && errno == EBADF ? 0 : got;
}
static long try_init_module(void)
{
	long got = syscall(SYS_init_module, "not a module, but long enough to be looked at", 32, "");
	return got < 0 && errno == ENOEXEC ? 0 : got;
}
static long try_finit_module(void)
{
	long got = syscall(SYS_finit_module, -1, "", 0);
	return got < 0 && errno == EBADF ? 0 : got;
}
static long try_delete_module(void)
{
	long got = syscall(SYS_delete_module, "no_such_module", O_NONBLOCK);
	return got < 0 && errno == ENOENT ? 0 : got;
}
static long try_reboot(void) { return reboot(RB_DISABLE_CAD); } // what is Ctrl-Alt-Del's way here
static long try_settime(void)
{
	struct timeval t;
	gettimeofday(&t, NULL);
	return settimeofday(&t, NULL);
}
static long try_sethostname(void) { return sethostname("web", 3); }
static long try_syslog(void) { return klogctl(3, (char[64]){ 0 }, 64); }
static long try_swapon(void)
{
	long got = syscall(SYS_swapon, "/no/such/file", 0);
	return got < 0 && errno == ENOENT ? 0 : got;
}
static long try_acct(void)
{
	long got = syscall(SYS_acct, "/no/such/file");
	return got < 0 && errno == ENOENT ? 0 : got;
}
static long try_quotactl(void)
{
	long got = syscall(SYS_quotactl, 0x80000100, NULL, 0, NULL); // Q_SYNC
	return got;
}
static long try_iopl(void) { return syscall(SYS_ioperm, 0x80, 1, 1); }
static long try_fanotify(void) { return syscall(SYS_fanotify_init, 0, O_RDONLY) < 0 ? -1 : 0; }
static long try_realtime(void)
{
	struct sched_param p = { .sched_priority = 50 };
	return sched_setscheduler(0, SCHED_FIFO, &p);
}
static long try_ptrace_child(void)
{
	pid_t pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	long got = ptrace(PTRACE_ATTACH, pid, 0, 0);
	int why = errno;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	errno = why;
	return got;
}
static long try_ptrace(void)
{
	pid_t pid = atoi(target);
	long got = ptrace(PTRACE_ATTACH, pid, 0, 0);
	if (!got) {
		waitpid(pid, NULL, __WALL);
		ptrace(PTRACE_DETACH, pid, 0, 0);
	}
	return got;
}
static long try_vm_read(void)
{
	char b;
	struct iovec l = { &b, 1 }, r = { (void *)0x400000, 1 };
	long got = process_vm_readv(atoi(target), &l, 1, &r, 1, 0);
	return got < 0 && errno == EFAULT ? 0 : got;
}
static long try_kill(void) { return kill(atoi(target), 0); }
static long try_pidfd(void) { return syscall(SYS_pidfd_open, atoi(target), 0); }

#define NAME(x) { #x, try_##x }
static const struct { const char *name; long (*try)(void); } ways[] = {
	NAME(mount), NAME(bind), NAME(remount), NAME(umount), NAME(fsopen), NAME(open_tree), NAME(move_mount), NAME(pivot_root), NAME(cgroup_mount),
	NAME(unshare_user), NAME(unshare_mount), NAME(unshare_net), NAME(unshare_pid), NAME(unshare_ipc), NAME(unshare_uts), NAME(unshare_cgroup),
	NAME(setns), NAME(clone_user), NAME(clone3_net), NAME(keyctl), NAME(add_key), NAME(request_key), NAME(bpf), NAME(perf), NAME(userfaultfd),
	NAME(handle), NAME(write), NAME(read), NAME(mknod), NAME(device), NAME(raw), NAME(raw6), NAME(raw_tcp), NAME(packet), NAME(packet_dgram),
	NAME(vsock), NAME(vsock32), NAME(alg), NAME(tipc), NAME(bind_device), NAME(iouring), NAME(kexec), NAME(kexec_file), NAME(init_module),
	NAME(finit_module), NAME(delete_module), NAME(reboot), NAME(settime), NAME(sethostname), NAME(syslog), NAME(swapon), NAME(acct),
	NAME(quotactl), NAME(iopl), NAME(fanotify), NAME(realtime), NAME(ptrace_child), NAME(ptrace), NAME(vm_read), NAME(kill),
	NAME(pidfd),
};

int main(int argc, char **argv)
{
	if (argc > 2)
		target = argv[2];
	for (size_t i = 0; argc > 1 && i < sizeof ways / sizeof *ways; i++)
		if (!strcmp(argv[1], ways[i].name)) {
			errno = 0;
			puts(ways[i].try() >= 0 ? "ok" : strerrorname_np(errno));
			return 0;
		}
	fprintf(stderr, "attack NAME [TARGET]\n");
	return 2;
}
