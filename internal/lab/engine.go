package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/kokkuri/kokkuri/images"
	"github.com/kokkuri/kokkuri/internal/honeypot"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

// reach says clearly when no engine answers.
func (l *Lab) reach(ctx context.Context) error {
	if _, err := l.cli.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return fmt.Errorf("no Docker engine answers at %s (scripts/deps.sh demo installs and starts one): %w", l.o.Engine, err)
	}
	return nil
}

// buildImages makes the images of the lab's machines where they are missing or changed.
func (l *Lab) buildImages(ctx context.Context) error {
	progress := &lineProgress{l: l}
	base, err := l.build.EnsureBase(ctx, progress)
	if err != nil {
		return fmt.Errorf("base image: %w", err)
	}
	for _, image := range []struct{ tag, folder string }{
		{imageHost, "lab-host"},
		{imageClient, "lab-client"},
	} {
		files, err := fs.Sub(images.Files, image.folder)
		if err != nil {
			return fmt.Errorf("image %s: %w", image.tag, err)
		}
		if err := l.build.BuildImage(ctx, image.tag, files, map[string]string{"BASE": base}, progress); err != nil {
			return fmt.Errorf("image %s: %w", image.tag, err)
		}
	}
	// The node would build it, but who waits here sees what goes on.
	if err := honeypot.BuildDoor(ctx, l.build, engine.DefaultSuite, progress); err != nil {
		return err
	}
	if err := honeypot.BuildImage(ctx, l.build, progress); err != nil {
		return fmt.Errorf("image of the pots: %w", err)
	}
	return nil
}

// lineProgress passes the builder's own lines on, but not what apt and others say meanwhile.
type lineProgress struct {
	l    *Lab
	rest []byte
}

func (p *lineProgress) Write(b []byte) (int, error) {
	p.rest = append(p.rest, b...)
	for {
		line, rest, ok := bytes.Cut(p.rest, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		p.rest = rest
		for _, prefix := range []string{"base image: ", "image ", "Step "} {
			if bytes.HasPrefix(line, []byte(prefix)) {
				p.l.printf("      %.100s\n", line)
			}
		}
	}
}

func (l *Lab) ensureNetwork(ctx context.Context, n netSpec) error {
	found, err := l.cli.NetworkInspect(ctx, n.name, client.NetworkInspectOptions{})
	if err == nil {
		if !slices.ContainsFunc(found.Network.IPAM.Config, func(c network.IPAMConfig) bool { return c.Subnet == n.v4 }) {
			return fmt.Errorf("network %s exists with other addresses: remove it with `kokkuri lab down`", n.name)
		}
		return nil
	}
	if !errdefs.IsNotFound(err) {
		return fmt.Errorf("look for network %s: %w", n.name, err)
	}
	// The machine gets no address in the network and does not masquerade, so that nothing leaves, and its own
	// routes stay what they were. A network that the engine calls internal would not do: its rules drop what
	// a machine of the lab routes for another. The engine is told nothing of IPv6: it would switch forwarding
	// on for the whole machine, and lose the bits of an address between /48 and /64.
	_, err = l.cli.NetworkCreate(ctx, n.name, client.NetworkCreateOptions{
		Driver: "bridge",
		IPAM:   &network.IPAM{Driver: "default", Config: []network.IPAMConfig{{Subnet: n.v4}}},
		Options: map[string]string{
			"com.docker.network.bridge.name":                 n.bridge,
			"com.docker.network.bridge.inhibit_ipv4":         "true",
			"com.docker.network.bridge.enable_ip_masquerade": "false",
		},
		Labels: map[string]string{labelLab: ""},
	})
	if err != nil {
		return fmt.Errorf("create network %s (%s): %w", n.name, n.v4, err)
	}
	return nil
}

func (l *Lab) removeNetwork(ctx context.Context, n netSpec) error {
	_, err := l.cli.NetworkRemove(ctx, n.name, client.NetworkRemoveOptions{})
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove network %s: %w", n.name, err)
	}
	return nil
}

// ensureMachine creates and starts a machine's container; one of another image is replaced.
func (l *Lab) ensureMachine(ctx context.Context, m *Machine) error {
	image, err := l.cli.ImageInspect(ctx, m.spec.image)
	if err != nil {
		return fmt.Errorf("look for image %s: %w", m.spec.image, err)
	}
	found, err := l.cli.ContainerInspect(ctx, m.spec.name, client.ContainerInspectOptions{})
	switch {
	case errdefs.IsNotFound(err):
	case err != nil:
		return fmt.Errorf("look for %s: %w", m.spec.name, err)
	case found.Container.Image == image.ID && found.Container.State.Running:
		return m.configure(ctx)
	default:
		if err := l.removeContainer(ctx, found.Container.ID); err != nil {
			return err
		}
	}
	if err := l.createMachine(ctx, m); err != nil {
		return err
	}
	return m.configure(ctx)
}

func (l *Lab) createMachine(ctx context.Context, m *Machine) error {
	host := &container.HostConfig{
		NetworkMode:   container.NetworkMode(m.spec.at[0].net.name),
		CgroupnsMode:  container.CgroupnsModePrivate,
		CapAdd:        m.spec.caps,
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
		Sysctls: map[string]string{
			"net.ipv6.conf.all.disable_ipv6": "0", "net.ipv6.conf.default.disable_ipv6": "0", "net.ipv6.conf.lo.disable_ipv6": "0",
		},
		LogConfig: container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "1m"}},
	}
	if m.spec.rawProc {
		// The agent sets forwarding in the host's own network namespace; the rest of /proc/sys stays
		// out of reach for want of capabilities.
		host.MaskedPaths, host.ReadonlyPaths = []string{}, []string{}
		host.SecurityOpt = []string{"apparmor=unconfined"}
	}
	first, more := m.spec.at[0], m.spec.at[1:]
	created, err := l.cli.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name: m.spec.name,
		Config: &container.Config{
			Hostname: m.spec.hostname, Image: m.spec.image,
			Labels: map[string]string{labelLab: ""}, Volumes: m.spec.disks,
		},
		HostConfig: host,
		NetworkingConfig: &network.NetworkingConfig{
			EndpointsConfig: map[string]*network.EndpointSettings{first.net.name: first.endpoint()},
		},
	})
	if err != nil {
		return fmt.Errorf("create %s: %w", m.spec.name, err)
	}
	for _, at := range more {
		_, err := l.cli.NetworkConnect(ctx, at.net.name, client.NetworkConnectOptions{
			Container: created.ID, EndpointConfig: at.endpoint(),
		})
		if err != nil {
			return fmt.Errorf("connect %s to %s: %w", m.spec.name, at.net.name, err)
		}
	}
	if _, err := l.cli.ContainerStart(ctx, created.ID, client.ContainerStartOptions{}); err != nil {
		return fmt.Errorf("start %s: %w", m.spec.name, err)
	}
	return nil
}

func (a attachment) endpoint() *network.EndpointSettings {
	return &network.EndpointSettings{IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: a.v4}}
}

func (l *Lab) removeContainer(ctx context.Context, id string) error {
	_, err := l.cli.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	return nil
}

// removeLabelled removes every container with the label (key, or key=value).
func (l *Lab) removeLabelled(ctx context.Context, label string) error {
	list, err := l.cli.ContainerList(ctx, client.ContainerListOptions{
		All: true, Filters: client.Filters{}.Add("label", label),
	})
	if err != nil {
		return fmt.Errorf("list containers with label %s: %w", label, err)
	}
	var errs []error
	for _, c := range list.Items {
		errs = append(errs, l.removeContainer(ctx, c.ID))
	}
	return errors.Join(errs...)
}

// archive packs files (path below / → content) for CopyToContainer.
func archive(files map[string]file) (*bytes.Buffer, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, f := range files {
		h := &tar.Header{Name: name, Mode: int64(f.mode), Size: int64(len(f.data)), Typeflag: tar.TypeReg}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("pack %s: %w", name, err)
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, fmt.Errorf("pack %s: %w", name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	return &buf, nil
}

// file is what is put into a machine.
type file struct {
	data []byte
	mode fs.FileMode
}

// prefixOf gives an address the length of the network that it is in.
func (n netSpec) prefixOf(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(a, n.v4.Bits())
	}
	return netip.PrefixFrom(a, n.v6.Bits())
}

// RestartPot restarts a pot's container, as the engine does when its machine comes up again.
func (l *Lab) RestartPot(ctx context.Context, id string) error {
	now := 0
	if _, err := l.cli.ContainerRestart(ctx, id, client.ContainerRestartOptions{Timeout: &now}); err != nil {
		return fmt.Errorf("restart pot %s: %w", id, err)
	}
	return nil
}

// Busy is what a pot takes of its machine.
type Busy struct {
	Processes uint64
	Memory    float64 // 0 to 1, of what it may take
}

// BusyPot asks the engine what a pot takes just now.
func (l *Lab) BusyPot(ctx context.Context, id string) (b Busy, err error) {
	found, err := l.cli.ContainerStats(ctx, id, client.ContainerStatsOptions{})
	if err != nil {
		return b, fmt.Errorf("ask what pot %s takes: %w", id, err)
	}
	defer found.Body.Close() //nolint:errcheck // read to its end
	var s container.StatsResponse
	if err := json.NewDecoder(found.Body).Decode(&s); err != nil {
		return b, fmt.Errorf("ask what pot %s takes: %w", id, err)
	}
	b.Processes = s.PidsStats.Current
	if s.MemoryStats.Limit > 0 {
		b.Memory = float64(max(s.MemoryStats.Usage, s.MemoryStats.MaxUsage)) / float64(s.MemoryStats.Limit)
	}
	return b, nil
}
