// Package agent assembles the agent's role: it ships the host's log lines and keeps the kernel as the server wants it.
package agent
