package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/client"
)

// traces is what a lab could leave on the machine: each line one thing that is there.
type traces map[string]bool

// beyond lists what is here and was not there before, and what is gone.
func (t traces) beyond(before traces) []string {
	var out []string
	for line := range t {
		if !before[line] {
			out = append(out, "+ "+line)
		}
	}
	for line := range before {
		if !t[line] {
			out = append(out, "- "+line)
		}
	}
	slices.Sort(out)
	return out
}

func takeTraces(ctx context.Context) (traces, error) {
	t := traces{}
	for _, fn := range []func(context.Context) error{t.engine, t.kernel, t.sysctls, t.files} {
		if err := fn(ctx); err != nil {
			return nil, fmt.Errorf("look at what is on the machine: %w", err)
		}
	}
	return t, nil
}

func (t traces) engine(ctx context.Context) error {
	cli, err := client.New()
	if err != nil {
		return err
	}
	defer cli.Close() //nolint:errcheck // only asked
	containers, err := cli.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		return err
	}
	for _, c := range containers.Items {
		t[fmt.Sprintf("container %s %v %v", c.ID[:12], c.Names, c.Labels)] = true
	}
	networks, err := cli.NetworkList(ctx, client.NetworkListOptions{})
	if err != nil {
		return err
	}
	for _, n := range networks.Items {
		t["network "+n.Name] = true
	}
	return nil
}

// kernel looks at rules, namespaces, links, addresses and routes.
func (t traces) kernel(ctx context.Context) error {
	for _, command := range [][]string{
		{"nft", "--stateless", "list", "ruleset"},
		{"ip", "netns", "list"},
		{"ip", "-oneline", "link", "show"},
		{"ip", "-4", "-oneline", "address", "show"},
		{"ip", "-6", "-oneline", "address", "show", "scope", "global"},
		{"ip", "-4", "route", "show", "table", "all"},
		{"ip", "-6", "route", "show", "table", "all"},
		{"ip", "rule", "show"},
		{"ip", "-6", "rule", "show"},
	} {
		out, err := exec.CommandContext(ctx, command[0], command[1:]...).Output()
		if err != nil {
			return fmt.Errorf("%q: %w", command, err)
		}
		for line := range strings.Lines(string(out)) {
			line = stable(strings.TrimSpace(line))
			if line != "" {
				t[strings.Join(command, " ")+": "+line] = true
			}
		}
	}
	return nil
}

// stable takes out what changes by itself.
func stable(line string) string {
	fields := strings.Fields(line)
	for i := range fields {
		if i > 0 && slices.Contains([]string{"valid_lft", "preferred_lft", "expires", "state", "pref"}, fields[i-1]) {
			fields[i] = "…"
		}
		// A bridge without ports has no carrier; that docker0 has none before and after is not ours.
		fields[i] = strings.NewReplacer(",LOWER_UP", "", "NO-CARRIER,", "").Replace(fields[i])
	}
	fields = slices.DeleteFunc(fields, func(f string) bool { return f == "linkdown" })
	if strings.Contains(line, "fe80:") {
		return "" // an interface's own, there as soon as it has a carrier for the first time
	}
	return strings.Join(fields, " ")
}

// sysctls reads all network settings.
func (t traces) sysctls(context.Context) error {
	const root = "/proc/sys/net"
	moving := []string{"nf_conntrack_count", "random_entropy", "nr_dentry", "tcp_fastopen_key", "flush", "fib_notify_on_flag_change"}
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || slices.Contains(moving, d.Name()) {
			return nil //nolint:nilerr // an interface that went away meanwhile
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil //nolint:nilerr // some can only be written
		}
		t[path+" = "+strings.TrimSpace(string(data))] = true
		return nil
	})
}

func (t traces) files(context.Context) error {
	for _, pattern := range []string{"/var/lib/kokkuri*", "/run/kokkuri*", "/run/netns/*", "/etc/kokkuri*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, path := range found {
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				if entries, err := os.ReadDir(path); err == nil && len(entries) == 0 {
					continue // an empty folder is no trace
				}
			}
			t["file "+path] = true
		}
	}
	return nil
}
