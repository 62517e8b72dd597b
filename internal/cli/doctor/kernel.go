package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
)

// nftables asks the kernel's nf_tables for its generation, which changes nothing.
func (m machine) nftables(context.Context) []event.Finding {
	const mend = "use a kernel with nf_tables (Debian's has it) and run as root"
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return failed("nftables", "the kernel has no netfilter: "+err.Error(), mend)
	}
	defer c.Close() //nolint:errcheck // only asked
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return failed("nftables", err.Error(), mend)
	}
	// struct nfgenmsg: family, version, resource id (linux/netfilter/nfnetlink.h).
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN), Flags: netlink.Request},
		Data:   []byte{unix.AF_UNSPEC, 0, 0, 0},
	})
	switch {
	case errors.Is(err, unix.EPERM):
		return failed("nftables", "not permitted to use it", "run as root; in a container, add CAP_NET_ADMIN")
	case err != nil:
		return failed("nftables", "the kernel's nf_tables does not answer: "+err.Error(), mend)
	}
	return ok("nftables", "the kernel's nf_tables answers")
}

// namespaces tries to make a network namespace, on a thread that ends with it.
func (m machine) namespaces(context.Context) []event.Finding {
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is thrown away
		made <- unix.Unshare(unix.CLONE_NEWNET)
	}()
	if err := <-made; err != nil {
		return failed("network namespaces", "none can be made: "+err.Error(), "run as root on a kernel with network namespaces")
	}
	return ok("network namespaces", "can be made")
}

// forwardPolicy looks for chains that drop what is forwarded, as Docker's do: they eat redirected traffic.
func (m machine) forwardPolicy(c config.AgentSection) check {
	return func(ctx context.Context) []event.Finding {
		const subject = "forwarding"
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		out, err := exec.CommandContext(ctx, "nft", "-j", "list", "chains").Output()
		if errors.Is(err, exec.ErrNotFound) {
			return warning(subject, "nft is not installed, so the firewall's policies can't be shown; the agent looks at them by itself when it redirects",
				"apt-get install nftables")
		}
		if err != nil {
			return warning(subject, "nft list chains: "+err.Error(), "run as root")
		}
		return forwardChains(out, c.DockerUser)
	}
}

// forwardChains reads nft's JSON (libnftables-json(5)) for base chains that drop forwarded packets.
func forwardChains(data []byte, dockerUser bool) []event.Finding {
	const subject = "forwarding"
	var listing struct {
		Nftables []struct {
			Chain *struct {
				Family string `json:"family"`
				Table  string `json:"table"`
				Name   string `json:"name"`
				Hook   string `json:"hook"`
				Policy string `json:"policy"`
			} `json:"chain"`
		} `json:"nftables"`
	}
	if err := json.Unmarshal(data, &listing); err != nil {
		return warning(subject, "nft's answer is not understood: "+err.Error(), "nft list ruleset")
	}
	var dropping []string
	docker := false
	for _, e := range listing.Nftables {
		c := e.Chain
		if c == nil || strings.HasPrefix(c.Table, "kokkuri") {
			continue
		}
		if c.Name == "DOCKER-USER" {
			docker = true
		}
		if c.Hook == "forward" && c.Policy == "drop" {
			dropping = append(dropping, fmt.Sprintf("%s %s %s", c.Family, c.Table, c.Name))
		}
	}
	switch {
	case len(dropping) == 0:
		return ok(subject, "no chain drops what is forwarded")
	case docker && dockerUser:
		return ok(subject, "%s drops what is forwarded; the agent adds its rule to DOCKER-USER", strings.Join(dropping, ", "))
	case docker:
		return warning(subject, strings.Join(dropping, ", ")+" drops what is forwarded, and so redirected traffic", "set agent.docker_user: true")
	}
	return warning(subject, strings.Join(dropping, ", ")+" drops what is forwarded, and so redirected traffic",
		"accept there what goes to your honeypot nodes (TCP, honeypot.port_range) and its answers")
}
