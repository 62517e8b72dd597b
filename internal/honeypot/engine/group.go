package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxProcesses bounds how many of a pot's processes are looked at.
const maxProcesses = 4096

var errNoGroup = errors.New("no control group that tells")

// readGroup reads a file of a pot's control group: its name in version 1, where a controller has it, or in version 2.
func readGroup(pid int, controller, v1, v2 string) (string, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return "", fmt.Errorf("control groups of process %d: %w", pid, err)
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) != 3 || fields[2] == "/" {
			continue
		}
		path := filepath.Join(cgroups, controller, fields[2], v1)
		if fields[0] == "0" && fields[1] == "" {
			path = filepath.Join(cgroups, fields[2], v2)
		} else if fields[1] != controller {
			continue
		}
		if text, err := os.ReadFile(path); err == nil {
			return string(text), nil
		}
	}
	return "", fmt.Errorf("process %d: %w", pid, errNoGroup)
}

// Memory returns how many bytes a pot uses, by its control group; pid is that of its first process. What
// it shares with other pots by their image is counted once, for the first that used it.
func Memory(pid int) (int64, error) {
	text, err := readGroup(pid, "memory", "memory.usage_in_bytes", "memory.current")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("memory of process %d's group: %w", pid, err)
	}
	return n, nil
}

// Processes returns how many processes a pot has, and the newest one's number in it; pid is that of its first process.
func Processes(pid int) (count, newest int, err error) {
	text, err := readGroup(pid, "pids", "cgroup.procs", "cgroup.procs")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(text) {
		if count++; count > maxProcesses {
			break
		}
		p, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil || p <= 0 {
			continue
		}
		newest = max(newest, numberInside(p))
	}
	return count, newest, nil
}

// numberInside is a process's number in its own namespace, 0 where it has ended.
func numberInside(pid int) int {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), "\nNSpid:")
	line, _, _ := strings.Cut(rest, "\n")
	fields := strings.Fields(line)
	if len(fields) == 0 {
		return 0
	}
	n, err := strconv.Atoi(fields[len(fields)-1])
	if err != nil {
		return 0
	}
	return n
}
