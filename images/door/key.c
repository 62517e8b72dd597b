// What sshd asks whether a public key lets in: it tells the node of the key, and lets nobody in.
#define _GNU_SOURCE
#include "node.h"

int main(int argc, char **argv) {
	if (argc != 6)
		return 0;
	int node = node_connect(argv[1]);
	if (node < 0)
		return 0;
	struct message m;
	message_start(&m, max_message);
	message_add(&m, "key");
	for (int i = 2; i < argc; i++) // uid, type, key, account
		message_add(&m, argv[i]);
	char buf[16];
	if (node_send(node, &m, NULL, 0) == 0)
		node_receive(node, buf, sizeof buf, NULL, NULL);
	message_end(&m);
	return 0;
}
