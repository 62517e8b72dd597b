package engine

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"
)

// LabelDoor marks a node's door; its value is the node's name. A door is no pot.
const LabelDoor = "kokkuri.door"

// DoorSpec describes a door to be: the sshd that speaks with attackers.
type DoorSpec struct {
	Name     string // among the node's doors
	Image    string
	Dir, At  string // a folder of the node's, and where the door has it
	Args     []string
	Resolver netip.Addr // what its resolv.conf names
	Memory   int64      // bytes, swap included; 2 GiB where 0
	Pids     int64      // 16,384 where 0
}

// StartDoor removes the node's door of this name, starts another, and returns its id and its first process.
func (d *Docker) StartDoor(ctx context.Context, s DoorSpec) (id string, pid int, err error) {
	name := "kokkuri-door-" + d.o.Node + "-" + s.Name
	if err := d.Remove(ctx, name); err != nil {
		return "", 0, err
	}
	res, err := d.cli.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name: name,
		Config: &container.Config{
			Image: s.Image, Cmd: s.Args, Hostname: "localhost",
			Labels: map[string]string{LabelDoor: d.o.Node},
		},
		HostConfig: doorConfig(s),
	})
	if err != nil {
		return "", 0, d.wrap(err, "create "+name)
	}
	if _, err := d.cli.ContainerStart(ctx, res.ID, client.ContainerStartOptions{}); err != nil {
		return "", 0, d.wrap(err, "start "+name)
	}
	in, err := d.cli.ContainerInspect(ctx, res.ID, client.ContainerInspectOptions{})
	if err != nil {
		return "", 0, d.wrap(err, "inspect "+name)
	}
	if in.Container.State == nil || in.Container.State.Pid == 0 {
		return "", 0, fmt.Errorf("start %s: it has ended at once", name)
	}
	return res.ID, in.Container.State.Pid, nil
}

// RemoveDoors removes all doors of the node.
func (d *Docker) RemoveDoors(ctx context.Context) error {
	res, err := d.cli.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", LabelDoor+"="+d.o.Node)})
	if err != nil {
		return d.wrap(err, "list doors")
	}
	for _, c := range res.Items {
		if err := d.Remove(ctx, c.ID); err != nil {
			return err
		}
	}
	return nil
}

// doorConfig is what holds a door in; see the node's threat model before changing a line of it. CAP_SYS_ADMIN is for
// entering the pots' networks; the door's first process forbids all else that it is good for (images/door/cage.h).
func doorConfig(s DoorSpec) *container.HostConfig {
	if s.Memory == 0 {
		s.Memory = 2 << 30
	}
	if s.Pids == 0 {
		s.Pids = 16384
	}
	c := &container.HostConfig{
		NetworkMode:    "none",
		CgroupnsMode:   container.CgroupnsModePrivate,
		IpcMode:        container.IPCModePrivate,
		CapDrop:        []string{"ALL"},
		CapAdd:         []string{"CHOWN", "FOWNER", "SETUID", "SETGID", "SYS_CHROOT", "KILL", "AUDIT_WRITE", "SYS_ADMIN"},
		SecurityOpt:    []string{"no-new-privileges"},
		ReadonlyRootfs: true,
		Tmpfs:          map[string]string{"/tmp": "rw,nosuid,nodev,noexec,size=16m,mode=1777"},
		LogConfig:      container.LogConfig{Type: "none"},
		RestartPolicy:  container.RestartPolicy{Name: container.RestartPolicyDisabled},
		Mounts:         []mount.Mount{{Type: mount.TypeBind, Source: s.Dir, Target: s.At, ReadOnly: true}},
		Resources: container.Resources{
			Memory:     s.Memory,
			MemorySwap: s.Memory,
			PidsLimit:  &s.Pids,
			Ulimits:    []*container.Ulimit{{Name: "nofile", Soft: 1024, Hard: 4096}},
		},
	}
	if s.Resolver.IsValid() {
		c.DNS = []netip.Addr{s.Resolver}
	}
	return c
}
