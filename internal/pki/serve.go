package pki

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"time"

	"github.com/kokkuri/kokkuri/internal/bus"
)

const maxCSR = 8 << 10 // bytes of PEM

// enrollRequest is sent on the subject enroll, renewRequest on renew.<role>.<name>; both are answered by a certificate.
type enrollRequest struct {
	Token string `json:"token"`
	CSR   string `json:"csr"` // PEM
}

type renewRequest struct {
	CSR string `json:"csr"` // PEM
}

type certificateReply struct {
	Certificate string `json:"certificate"` // PEM
}

// Codes of remote errors.
const (
	codeMalformed = "token_malformed"
	codeExpired   = "token_expired"
	codeUsed      = "token_used"
	codeUnknown   = "token_unknown"
	codeRefused   = "refused"
)

// ServeOptions of Serve.
type ServeOptions struct {
	Conn   *bus.Conn // the server's own connection
	Tokens TokenStore
	// OnEnrolled is called before the new certificate is handed out; an error refuses the enrolment.
	OnEnrolled func(ctx context.Context, role Role, name string) error
	Log        *slog.Logger
}

// Serve answers enrolments and renewals until stop is called.
func (ca *CA) Serve(opts ServeOptions) (stop func(), err error) {
	if opts.Log == nil {
		opts.Log = ca.log
	}
	var stops []func()
	stop = func() {
		for _, s := range stops {
			s()
		}
	}
	s, err := bus.Serve(opts.Conn, bus.EnrollSubject, func(ctx context.Context, _ string, in enrollRequest) (certificateReply, error) {
		return ca.enroll(ctx, opts, in)
	})
	if err != nil {
		return nil, fmt.Errorf("serve enrolment: %w", err)
	}
	stops = append(stops, s)
	for _, role := range []Role{RoleHost, RoleNode} {
		s, err := bus.Serve(opts.Conn, bus.RenewSubject(string(role), "*"), func(_ context.Context, name string, in renewRequest) (certificateReply, error) {
			return ca.renew(role, name, in)
		})
		if err != nil {
			stop()
			return nil, fmt.Errorf("serve renewal: %w", err)
		}
		stops = append(stops, s)
	}
	return stop, nil
}

func (ca *CA) enroll(ctx context.Context, opts ServeOptions, in enrollRequest) (certificateReply, error) {
	token, err := ParseToken(in.Token)
	if err != nil {
		return certificateReply{}, &bus.RemoteError{Code: codeMalformed, Text: err.Error()}
	}
	claimant, err := claimantOf(in.CSR)
	if err != nil {
		return certificateReply{}, err
	}
	stored, status, err := opts.Tokens.TakeToken(ctx, token.Hash(), claimant, ca.now())
	if err != nil {
		opts.Log.ErrorContext(ctx, "token not checked", "error", err)
		return certificateReply{}, &bus.RemoteError{Code: codeRefused, Text: "the server could not check the token; its log says why. Try again later"}
	}
	again := "make a new one on the server: kokkuri enroll " + token.Name
	switch status {
	case TokenOK:
	case TokenExpired:
		return certificateReply{}, &bus.RemoteError{Code: codeExpired, Text: fmt.Sprintf("this token expired on %s; %s",
			stored.Expires.UTC().Format(time.RFC3339), again)}
	case TokenUsed:
		return certificateReply{}, &bus.RemoteError{Code: codeUsed, Text: "this token was used already, by another key; if that was not you, remove the host. Else " + again}
	case TokenUnknown:
		return certificateReply{}, &bus.RemoteError{Code: codeUnknown, Text: "this server does not know the token; " + again}
	}
	if opts.OnEnrolled != nil {
		if err := opts.OnEnrolled(ctx, stored.Role, stored.Name); err != nil {
			opts.Log.ErrorContext(ctx, "enrolment refused", "role", string(stored.Role), "name", stored.Name, "error", err)
			return certificateReply{}, &bus.RemoteError{Code: codeRefused, Text: err.Error()}
		}
	}
	cert, err := ca.IssueClient([]byte(in.CSR), stored.Role, stored.Name)
	if err != nil {
		opts.Log.ErrorContext(ctx, "enrolment refused", "role", string(stored.Role), "name", stored.Name, "error", err)
		return certificateReply{}, &bus.RemoteError{Code: codeRefused, Text: err.Error()}
	}
	return certificateReply{Certificate: string(cert)}, nil
}

// renew issues a new certificate to whom the broker let publish on the subject.
func (ca *CA) renew(role Role, name string, in renewRequest) (certificateReply, error) {
	if _, err := claimantOf(in.CSR); err != nil {
		return certificateReply{}, err
	}
	cert, err := ca.IssueClient([]byte(in.CSR), role, name)
	if err != nil {
		return certificateReply{}, &bus.RemoteError{Code: codeRefused, Text: err.Error()}
	}
	return certificateReply{Certificate: string(cert)}, nil
}

// claimantOf checks the size and signature of a certificate request and returns a hash of its public key.
func claimantOf(csrPEM string) (string, error) {
	refuse := &bus.RemoteError{Code: codeRefused, Text: "the certificate request can't be read"}
	if len(csrPEM) > maxCSR {
		return "", refuse
	}
	csr, err := parseRequest([]byte(csrPEM))
	if err != nil {
		return "", refuse
	}
	sum := sha256.Sum256(csr.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:]), nil
}
