package engine

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/kokkuri/kokkuri/internal/event"
)

// Labels of pots, by which a later process of ours, and people, find them.
const (
	LabelPot   = "kokkuri.pot"
	LabelNode  = "kokkuri.node"
	LabelIndex = "kokkuri.index" // place in the pots' network

	// labelService + a service's name is an image's label; its value is the port of the service.
	labelService = "kokkuri.service."
	// labelStart + a service's name is the command that starts it in the pot, when somebody first comes for
	// it. A service without one runs as soon as the pot does.
	labelStart = "kokkuri.start."
	// labelLogin + a service's name is what the service's administrator logs in by, ACCOUNT:PASSWORD, until an attacker's guess
	// was accepted. A front that decides on passwords needs it.
	labelLogin = "kokkuri.login."
	// labelGuise is an image's label; its value is an argument with which the pot's first process waits for somebody
	// who answers what programs ask the kernel about the machine.
	labelGuise = "kokkuri.guise"
	// labelGuised says that a pot was started with that.
	labelGuised = "kokkuri.guised"
)

// State is what a container is doing.
type State string

// States of containers.
const (
	Created State = "created"
	Running State = "running"
	Paused  State = "paused"
	Stopped State = "stopped"
)

// Limits bound what one pot may use.
type Limits struct {
	Memory int64   // bytes, swap included; 256 MiB where 0
	CPUs   float64 // 0.5 where 0
	Pids   int64   // 128 where 0
}

func (l Limits) orDefault() Limits {
	if l.Memory == 0 {
		l.Memory = 256 << 20
	}
	if l.CPUs == 0 {
		l.CPUs = 0.5
	}
	if l.Pids == 0 {
		l.Pids = 128
	}
	return l
}

// Spec describes a pot to be.
type Spec struct {
	Name     string
	Image    string
	Hostname string
	Index    int
	Resolver netip.Addr // what its resolv.conf names
	Limits   Limits
	Guised   bool // somebody answers what its programs ask about the machine
}

// Container is a pot as the engine knows it.
type Container struct {
	ID       string
	Name     string
	Image    string
	Index    int
	Services map[event.Service]uint16
	Starts   map[event.Service]string // how services are started that don't run from the pot's start on
	Logins   map[event.Service]string // how their administrators log in: ACCOUNT:PASSWORD
	State    State
	Guised   bool // it waits for somebody who answers what its programs ask about the machine
	Created  time.Time
	PID      int    // of its first process; 0 unless it runs. Only Inspect fills it in.
	Run      string // names this run of it. Only Inspect fills it in.
}

// Create makes a pot's container and returns its id; it does not start it.
func (d *Docker) Create(ctx context.Context, s Spec) (string, error) {
	labels := map[string]string{LabelPot: s.Name, LabelNode: d.o.Node, LabelIndex: strconv.Itoa(s.Index)}
	var args []string
	if s.Guised {
		image, err := d.cli.ImageInspect(ctx, s.Image)
		if err != nil {
			return "", d.wrap(err, "look for the image "+s.Image)
		}
		if image.Config != nil && image.Config.Labels[labelGuise] != "" {
			args, labels[labelGuised] = []string{image.Config.Labels[labelGuise]}, "yes"
		}
	}
	res, err := d.cli.ContainerCreate(ctx, client.ContainerCreateOptions{
		Name: s.Name,
		Config: &container.Config{
			Image:    s.Image,
			Hostname: s.Hostname,
			Cmd:      args,
			Labels:   labels,
		},
		HostConfig: hostConfig(s),
	})
	if err != nil {
		return "", d.wrap(err, "create pot "+s.Name)
	}
	return res.ID, nil
}

// sharedMemory is as systemd mounts it: what bots drop there can be run, which the engine's own would refuse.
const sharedMemory = "rw,nosuid,nodev,exec,mode=1777,size=64m"

// hostConfig is what holds a pot in; see the node's threat model before changing a line of it.
func hostConfig(s Spec) *container.HostConfig {
	l := s.Limits.orDefault()
	return &container.HostConfig{
		NetworkMode:  "none", // the node wires it into a network without uplink
		CgroupnsMode: container.CgroupnsModePrivate,
		IpcMode:      container.IPCModePrivate,
		CapDrop:      []string{"ALL"},
		CapAdd: []string{
			"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETUID", "SETGID",
			"KILL", "SYS_CHROOT", "AUDIT_WRITE", "NET_BIND_SERVICE",
		},
		SecurityOpt:   []string{"no-new-privileges"},
		Sysctls:       map[string]string{"net.ipv4.ping_group_range": "0 2147483647"},
		LogConfig:     container.LogConfig{Type: "none"},
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
		Tmpfs:         map[string]string{"/dev/shm": sharedMemory},
		DNS:           []netip.Addr{s.Resolver}, // not the machine's own
		Resources: container.Resources{
			Memory:     l.Memory,
			MemorySwap: l.Memory,
			NanoCPUs:   int64(l.CPUs * 1e9),
			PidsLimit:  &l.Pids,
			Ulimits:    []*container.Ulimit{{Name: "nofile", Soft: 1024, Hard: 4096}},
		},
	}
}

// Start starts a pot; one that runs already is left alone.
func (d *Docker) Start(ctx context.Context, id string) error {
	_, err := d.cli.ContainerStart(ctx, id, client.ContainerStartOptions{})
	return d.wrap(err, "start pot "+short(id))
}

// Remove ends a pot and deletes what it changed; one that is gone is no error.
func (d *Docker) Remove(ctx context.Context, id string) error {
	d.thaw(ctx, id)
	_, err := d.cli.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return d.wrap(err, "remove pot "+short(id))
}

// Inspect describes one pot; found is false where there is none with this id or name.
func (d *Docker) Inspect(ctx context.Context, id string) (c Container, found bool, err error) {
	res, err := d.cli.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if errdefs.IsNotFound(err) {
		return Container{}, false, nil
	}
	if err != nil {
		return Container{}, false, d.wrap(err, "inspect pot "+short(id))
	}
	in := res.Container
	if in.Config == nil || in.State == nil {
		return Container{}, false, fmt.Errorf("inspect pot %s: the engine's answer has no state", short(id))
	}
	created, _ := time.Parse(time.RFC3339Nano, in.Created)
	if node := in.Config.Labels[LabelNode]; node != d.o.Node {
		return Container{}, false, fmt.Errorf("container %s is not a pot of node %s (its label %s is %q)", short(id), d.o.Node, LabelNode, node)
	}
	c, err = containerOf(in.ID, in.Config.Labels)
	if err != nil {
		return Container{}, false, err
	}
	c.Image, c.Created, c.State = in.Config.Image, created, stateOf(in.State.Status)
	if c.State == Running || c.State == Paused {
		c.PID = in.State.Pid
		c.Run = strconv.Itoa(c.PID) + "@" + in.State.StartedAt
	}
	return c, true, nil
}

// List describes all pots of this node, also those that an earlier process of ours made.
func (d *Docker) List(ctx context.Context) ([]Container, error) {
	res, err := d.cli.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: d.mine()})
	if err != nil {
		return nil, d.wrap(err, "list pots")
	}
	out := make([]Container, 0, len(res.Items))
	for _, s := range res.Items {
		c, err := containerOf(s.ID, s.Labels)
		if err != nil {
			d.log.WarnContext(ctx, "container with our label is no pot of ours", "container", short(s.ID), "error", err)
			continue
		}
		c.Image, c.Created, c.State = s.Image, time.Unix(s.Created, 0), stateOf(s.State)
		out = append(out, c)
	}
	return out, nil
}

func (d *Docker) mine() client.Filters {
	return client.Filters{}.Add("label", LabelNode+"="+d.o.Node)
}

// Services returns the services that an image offers and their ports.
func (d *Docker) Services(ctx context.Context, image string) (map[event.Service]uint16, error) {
	res, err := d.cli.ImageInspect(ctx, image)
	if err != nil {
		return nil, d.wrap(err, "look for the image "+image)
	}
	if res.Config == nil {
		return nil, nil
	}
	out, err := servicesOf(res.Config.Labels)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", image, err)
	}
	return out, nil
}

func servicesOf(labels map[string]string) (map[event.Service]uint16, error) {
	out := make(map[event.Service]uint16)
	for label, value := range labels {
		name, ok := strings.CutPrefix(label, labelService)
		if !ok {
			continue
		}
		port, err := strconv.ParseUint(value, 10, 16)
		if err != nil || port == 0 {
			return nil, fmt.Errorf("label %s is %q; it has to be a port from 1 to 65535", label, value)
		}
		out[event.Service(name)] = uint16(port)
	}
	return out, nil
}

// byService returns what labels say of services: those whose names begin so.
func byService(labels map[string]string, begin string) map[event.Service]string {
	out := make(map[event.Service]string)
	for label, value := range labels {
		if name, ok := strings.CutPrefix(label, begin); ok && value != "" {
			out[event.Service(name)] = value
		}
	}
	return out
}

func containerOf(id string, labels map[string]string) (Container, error) {
	index, err := strconv.Atoi(labels[LabelIndex])
	if err != nil {
		return Container{}, fmt.Errorf("container %s: label %s: %w", short(id), LabelIndex, err)
	}
	services, err := servicesOf(labels)
	if err != nil {
		return Container{}, fmt.Errorf("container %s: %w", short(id), err)
	}
	return Container{
		ID: id, Name: labels[LabelPot], Index: index, Services: services, Starts: byService(labels, labelStart), Logins: byService(labels, labelLogin),
		Guised: labels[labelGuised] != "",
	}, nil
}

func stateOf(s container.ContainerState) State {
	switch s {
	case container.StateRunning:
		return Running
	case container.StatePaused:
		return Paused
	case container.StateCreated:
		return Created
	default:
		return Stopped
	}
}

func short(id string) string {
	if len(id) == 64 {
		return id[:12]
	}
	return id
}
