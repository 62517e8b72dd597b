// Package server assembles the server's role: lines come in, are parsed and detected, and what is decided goes out to hosts and nodes.
package server
