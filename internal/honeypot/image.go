package honeypot

import (
	"context"
	"fmt"
	"io"
	"io/fs"

	"github.com/kokkuri/kokkuri/images"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

// BuildImage builds BuiltinImage, and what it is built on, from what is in this binary, where they are missing or
// old.
func BuildImage(ctx context.Context, d *engine.Docker, progress io.Writer) error {
	base, err := d.EnsureBase(ctx, progress)
	if err != nil {
		return err
	}
	for _, layer := range []struct{ tag, folder string }{{machineImage, "ssh"}, {BuiltinImage, "pot"}} {
		files, err := fs.Sub(images.Files, layer.folder)
		if err != nil {
			return fmt.Errorf("image %s: %w", layer.tag, err)
		}
		if err := d.BuildImage(ctx, layer.tag, files, map[string]string{"BASE": base}, progress); err != nil {
			return err
		}
		base = layer.tag
	}
	return nil
}

// BuildDoor builds DoorImage from what is in this binary, where it is missing or old.
func BuildDoor(ctx context.Context, d *engine.Docker, progress io.Writer) error {
	base, err := d.EnsureBase(ctx, progress)
	if err != nil {
		return err
	}
	files, err := fs.Sub(images.Files, "door")
	if err != nil {
		return fmt.Errorf("image %s: %w", DoorImage, err)
	}
	return d.BuildImage(ctx, DoorImage, files, map[string]string{"BASE": base}, progress)
}
