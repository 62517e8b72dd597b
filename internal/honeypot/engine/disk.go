package engine

import (
	"context"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// Sizes returns how many bytes each running pot of this node has written to its file system.
func (d *Docker) Sizes(ctx context.Context) (map[string]int64, error) {
	res, err := d.cli.ContainerList(ctx, client.ContainerListOptions{Size: true, Filters: d.mine()})
	if err != nil {
		return nil, d.wrap(err, "ask for the size of pots")
	}
	out := make(map[string]int64, len(res.Items))
	for _, s := range res.Items {
		out[s.ID] = s.SizeRw
	}
	return out, nil
}

// Written counts what a running pot has written; see the function of that name.
func (d *Docker) Written(id string, pid int, most Amount) (a Amount, over bool, err error) {
	return Written(id, pid, most)
}

// Kill ends a pot's processes at once; its files stay. One that does not run is no error.
func (d *Docker) Kill(ctx context.Context, id string) error {
	d.thaw(ctx, id)
	_, err := d.cli.ContainerKill(ctx, id, client.ContainerKillOptions{})
	if errdefs.IsNotFound(err) || errdefs.IsConflict(err) {
		return nil
	}
	return d.wrap(err, "end pot "+short(id))
}
