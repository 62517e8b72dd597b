package collect

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/gomodule/redigo/redis"
)

// dial connects and logs in; raw is the connection below, which a cancelled context closes.
func (r *redisLog) dial(ctx context.Context) (conn redis.Conn, raw net.Conn, err error) { //nolint:ireturn // the library's
	network := "tcp"
	if strings.HasPrefix(r.o.Address, "/") {
		network = "unix"
	}
	options := []redis.DialOption{
		redis.DialConnectTimeout(redisTimeout), redis.DialReadTimeout(redisTimeout), redis.DialWriteTimeout(redisTimeout),
		redis.DialContextFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
			d := net.Dialer{Timeout: redisTimeout}
			conn, err := d.DialContext(ctx, network, address)
			if err != nil {
				return nil, err //nolint:wrapcheck // says of what
			}
			raw = &boundedConn{Conn: conn}
			return raw, nil
		}),
	}
	if r.o.PasswordFile != "" {
		password, err := os.ReadFile(r.o.PasswordFile)
		if err != nil {
			return nil, nil, fmt.Errorf("password for Redis: %w", err)
		}
		options = append(options, redis.DialPassword(strings.TrimRight(string(password), "\r\n")))
		if r.o.Username != "" {
			options = append(options, redis.DialUsername(r.o.Username))
		}
	}
	if r.o.TLS {
		config, err := r.tlsConfig()
		if err != nil {
			return nil, nil, err
		}
		options = append(options, redis.DialUseTLS(true), redis.DialTLSConfig(config))
	}
	if conn, err = redis.DialContext(ctx, network, r.o.Address, options...); err != nil {
		return nil, nil, fmt.Errorf("connect: %w", err)
	}
	return conn, raw, nil
}

var errNoCertificate = errors.New("no certificate in it")

func (r *redisLog) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: r.o.ServerName}
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(r.o.Address)
	}
	if r.o.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(r.o.CertFile, r.o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("our certificate for Redis: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	if r.o.CAFile == "" {
		return config, nil
	}
	b, err := os.ReadFile(r.o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("certificates for Redis: %w", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("certificates for Redis: %s: %w", r.o.CAFile, errNoCertificate)
	}
	return config, nil
}

// boundedConn ends a connection on which too much comes at once; the bound holds for what comes between two writes.
type boundedConn struct {
	net.Conn

	got int
}

var errRedisAnswer = errors.New("its answer is too long")

func (b *boundedConn) Write(p []byte) (int, error) {
	b.got = 0
	return b.Conn.Write(p) //nolint:wrapcheck // a connection's
}

func (b *boundedConn) Read(p []byte) (int, error) {
	if b.got > redisAnswer {
		return 0, errRedisAnswer
	}
	n, err := b.Conn.Read(p)
	b.got += n
	return n, err //nolint:wrapcheck // a connection's
}
