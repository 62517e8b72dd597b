package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/client"
)

// labelContent holds the hash of what an image was built from.
const labelContent = "kokkuri.content"

// BuildImage builds an image of files (a Dockerfile and what it copies) with the build arguments
// args. Where an image with this tag was built from the same content, it does nothing. Files that
// start with #! are executable in the build context.
func (d *Docker) BuildImage(ctx context.Context, tag string, files fs.FS, args map[string]string, progress io.Writer) error {
	d.buildMu.Lock()
	defer d.buildMu.Unlock()

	archive, err := tarOf(files)
	if err != nil {
		return fmt.Errorf("build %s: read the build context: %w", tag, err)
	}
	content, err := d.contentHash(ctx, archive, args)
	if err != nil {
		return fmt.Errorf("build %s: %w", tag, err)
	}
	if there, err := d.built(ctx, tag, content); there || err != nil {
		return err
	}
	done, err := takeTurn(ctx)
	if err != nil {
		return fmt.Errorf("build %s: %w", tag, err)
	}
	defer done()
	if there, err := d.built(ctx, tag, content); there || err != nil { // by whoever had its turn before
		return err
	}
	say(progress, "image %s: building", tag)
	buildArgs := make(map[string]*string, len(args))
	for k, v := range args {
		buildArgs[k] = &v
	}
	resp, err := d.cli.ImageBuild(ctx, bytes.NewReader(archive), client.ImageBuildOptions{
		Tags:        []string{tag},
		BuildArgs:   buildArgs,
		Labels:      map[string]string{labelContent: content},
		Remove:      true,
		ForceRemove: true,
		Version:     build.BuilderV1,
	})
	if err != nil {
		return d.wrap(err, "build "+tag)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end below
	return readStream(resp.Body, progress, "build "+tag)
}

// built reports whether an image was built from a content.
func (d *Docker) built(ctx context.Context, tag, content string) (bool, error) {
	found, err := d.cli.ImageInspect(ctx, tag)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, d.wrap(err, "look for the image "+tag)
	}
	return found.Config != nil && found.Config.Labels[labelContent] == content, nil
}

// contentHash names everything that an image is built from, the base image's identity included.
func (d *Docker) contentHash(ctx context.Context, archive []byte, args map[string]string) (string, error) {
	h := sha256.New()
	h.Write(archive)
	for _, k := range slices.Sorted(maps.Keys(args)) {
		h.Write(fmt.Appendf(nil, "%q=%q\n", k, args[k]))
	}
	if base := args["BASE"]; base != "" {
		img, err := d.cli.ImageInspect(ctx, base)
		if err != nil {
			return "", d.wrap(err, "look for the image "+base)
		}
		h.Write([]byte(img.ID))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// tarOf packs a tree the same way each time.
func tarOf(files fs.FS) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		hdr := &tar.Header{Name: path, Mode: 0o755, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
		if entry.IsDir() {
			hdr.Name += "/"
			hdr.Typeflag = tar.TypeDir
			return w.WriteHeader(hdr)
		}
		data, err := fs.ReadFile(files, path)
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		if !bytes.HasPrefix(data, []byte("#!")) {
			hdr.Mode = 0o644
		}
		hdr.Typeflag = tar.TypeReg
		hdr.Size = int64(len(data))
		if err := w.WriteHeader(hdr); err != nil {
			return fmt.Errorf("pack %s: %w", path, err)
		}
		_, err = w.Write(data)
		return err //nolint:wrapcheck // a buffer does not fail
	})
	if err != nil {
		return nil, fmt.Errorf("walk: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	return buf.Bytes(), nil
}

// readStream copies an engine's progress messages to w and returns the error that they end with.
func readStream(r io.Reader, w io.Writer, doing string) error {
	tail := &tailWriter{limit: 2048}
	dec := json.NewDecoder(r)
	for {
		var msg struct {
			Stream string `json:"stream"`
			Status string `json:"status"`
			Error  string `json:"error"`
		}
		err := dec.Decode(&msg)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: read the engine's answer: %w", doing, err)
		}
		if msg.Error != "" {
			return fmt.Errorf("%s: %s; it said last:\n%s", doing, msg.Error, strings.TrimSpace(tail.String()))
		}
		io.WriteString(io.MultiWriter(w, tail), msg.Stream) //nolint:errcheck // progress is for people to look at
	}
}
