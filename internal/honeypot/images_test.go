package honeypot_test

import (
	"os/exec"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

// verified is what the checks of an image say, "WHAT: SAYS" of those that it fails.
func verified(t *testing.T, image string) (ok bool, wrong []string, all int) {
	t.Helper()
	ok, err := honeypot.VerifyImage(t.Context(), "", image, func(c honeypot.Check) {
		all++
		if !c.OK {
			wrong = append(wrong, c.What+": "+c.Says)
		}
	})
	require.NoError(t, err)
	return ok, wrong, all
}

func TestImagesAreBuiltListedAndVerified(t *testing.T) {
	name, err := honeypot.BuildImages(t.Context(), "", engine.DefaultSuite, t.Output())
	require.NoError(t, err)
	images, err := honeypot.Images(t.Context(), "")
	require.NoError(t, err)
	var found *honeypot.Image
	for _, i := range images {
		if i.Name == name+":latest" {
			found = &i
		}
	}
	require.NotNil(t, found)
	assert.Equal(t, []event.Service{event.FTP, event.HTTP, event.MySQL, event.Postgres, event.Redis, event.SSH, event.Telnet}, found.Services)
	assert.Positive(t, found.Size)

	ok, wrong, all := verified(t, name)
	assert.True(t, ok, wrong)
	assert.Greater(t, all, 7, "each service is started")
}

func TestWhatIsWrongWithAnImageIsSaid(t *testing.T) {
	d, err := engine.New(engine.Options{})
	require.NoError(t, err)
	defer d.Close() //nolint:errcheck // idle connections
	require.NoError(t, honeypot.BuildImage(t.Context(), d, t.Output()))
	build := func(name, labels string) string {
		t.Helper()
		file := "FROM " + honeypot.BuiltinImage + "\nLABEL " + labels + "\n"
		t.Cleanup(func() { _ = exec.Command("docker", "rmi", "--force", name).Run() })
		require.NoError(t, d.BuildImage(t.Context(), name, fstest.MapFS{"Dockerfile": {Data: []byte(file)}}, nil, t.Output()))
		return name
	}
	ok, wrong, _ := verified(t, build("kokkuri-test/broken", `kokkuri.start.redis="echo there is none; exit 3" kokkuri.login.mysql=root kokkuri.login.telnet=a:b kokkuri.service.gopher=22`))
	assert.False(t, ok)
	said := strings.Join(wrong, "\n")
	assert.Contains(t, said, "redis listens at 6379: echo there is none; exit 3: it ends with 3: there is none")
	assert.Contains(t, said, "login of mysql: kokkuri.login.mysql has to be ACCOUNT:PASSWORD")
	assert.Contains(t, said, "service gopher: nothing redirects it")
	assert.Len(t, wrong, 3, said)

	ok, wrong, _ = verified(t, build("kokkuri-test/misnumbered", "kokkuri.service.ftp=none"))
	assert.False(t, ok)
	assert.Contains(t, strings.Join(wrong, "\n"), `label kokkuri.service.ftp is "none"; it has to be a port from 1 to 65535`)

	_, err = honeypot.VerifyImage(t.Context(), "", "kokkuri-test/nosuch", func(honeypot.Check) {})
	require.ErrorContains(t, err, "kokkuri-test/nosuch")
}
