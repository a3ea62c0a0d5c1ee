package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
)

// recipe is a proxy's configuration in scripts/proxy, and what it takes to run it here.
type recipe struct {
	file, program string
	args          []string // of the program; FILE and DIR are put in
	tilewire      []string
	idle          string   // the line with its time of silence, "" if it has none
	short         string   // that line with a time that a test can await
	change        []string // old, new, ...: ports, paths
	cannot        string   // what it says if this build of it has not what the recipe needs
	check         []string // how to ask that
}

const proxyIdle = 3 * time.Second // of short

var recipes = []recipe{
	{
		file: "nginx.conf", program: "nginx", args: []string{"-c", "FILE", "-p", "DIR", "-e", "DIR/error.log", "-g", "daemon off;"},
		tilewire: []string{"--keep-alive"}, idle: "proxy_read_timeout 75s;", short: "proxy_read_timeout 3s;",
		change: []string{"listen 443 ssl", "listen FRONT ssl", "/run/nginx.pid", "DIR/pid", "/var/log/nginx", "DIR", "access_log off;", "access_log off; client_body_temp_path DIR/b; proxy_temp_path DIR/p; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;"},
	},
	{
		file: "nginx-stream.conf", program: "nginx", args: []string{"-c", "FILE", "-p", "DIR", "-e", "DIR/error.log", "-g", "daemon off;"},
		tilewire: []string{"--proxy-protocol=v1"}, idle: "proxy_timeout 75s;", short: "proxy_timeout 3s;",
		change: []string{"listen 443 ssl", "listen FRONT ssl", "/run/nginx.pid", "DIR/pid", "/var/log/nginx", "DIR"},
		check:  []string{"-t", "-c", "FILE", "-p", "DIR", "-e", "DIR/error.log"}, cannot: "ngx_stream_module.so",
	},
	{
		file: "haproxy.cfg", program: "haproxy", args: []string{"-db", "-f", "FILE"},
		tilewire: []string{"--proxy-protocol=v2"}, idle: "timeout tunnel 75s", short: "timeout tunnel 3s",
		change: []string{"bind :443", "bind FRONT", "/etc/tilewire/both.pem", "DIR/both.pem", "inter 2s", "inter 100ms"},
	},
	{
		file: "Caddyfile", program: "caddy", args: []string{"run", "--config", "FILE", "--adapter", "caddyfile"}, tilewire: []string{"--keep-alive"},
		change: []string{"example.org:443 {", "https://example.org:PORT {\n	bind 127.0.0.1", "admin off", "admin off\n	auto_https disable_redirects\n	storage file_system DIR/caddy"},
	},
	{
		file: "Caddyfile.proxy-protocol", program: "caddy", args: []string{"run", "--config", "FILE", "--adapter", "caddyfile"}, tilewire: []string{"--proxy-protocol=v2"},
		change: []string{"example.org:443 {", "https://example.org:PORT {\n	bind 127.0.0.1", "admin off", "admin off\n	auto_https disable_redirects\n	storage file_system DIR/caddy"},
		check:  []string{"adapt", "--config", "FILE", "--adapter", "caddyfile"}, cannot: "proxy_protocol",
	},
}

// front is a proxy that runs, before a pipe.
type front struct {
	*proc
	port int
	pool *x509.CertPool
}

// run starts the proxy with its recipe, short: with the short time of silence.
func (r *recipe) run(t *testing.T, short bool, tilewire ...string) *front {
	t.Helper()
	program, err := exec.LookPath(r.program)
	if err != nil {
		t.Skip(r.program, "is not installed:", err)
	}
	text, err := os.ReadFile("../../scripts/proxy/" + r.file)
	if err != nil {
		t.Fatal(err)
	}
	p := serve(t, append(append(slices.Clone(r.tilewire), "--trusted-proxy", "127.0.0.1"), tilewire...)...)
	f := &front{proc: p}
	back := strings.TrimSuffix(strings.TrimPrefix(p.url, "http://"), "/")
	for try := 0; ; try++ { // somebody may take the port before the proxy does
		dir := t.TempDir()
		f.port, f.pool = freePort(t), certificate(t, dir)
		change := append([]string{
			"127.0.0.1:8080", back, "/etc/tilewire/cert.pem", "DIR/cert.pem", "/etc/tilewire/key.pem", "DIR/key.pem",
			"worker_processes auto", "worker_processes 1", "worker_connections 16384", "worker_connections 256", "maxconn 20000", "maxconn 200",
		}, r.change...)
		if dir := os.Getenv("TILEWIRE_NGINX_MODULES"); dir != "" { // where it lies if it is not installed
			change = append(change, "/usr/lib/nginx/modules", dir)
		}
		if short {
			change = append(change, r.idle, r.short)
		}
		fill := strings.NewReplacer("DIR", dir, "FRONT", fmt.Sprint("127.0.0.1:", f.port), "PORT", fmt.Sprint(f.port), "FILE", filepath.Join(dir, r.file))
		conf := string(text)
		for i := 0; i < len(change); i += 2 {
			if needed := i >= 12 && change[i] != "/usr/lib/nginx/modules"; needed && !strings.Contains(conf, change[i]) {
				t.Fatalf("%s has no %q", r.file, change[i])
			}
			conf = strings.ReplaceAll(conf, change[i], change[i+1])
		}
		if err := os.WriteFile(filepath.Join(dir, r.file), []byte(fill.Replace(conf)), 0o600); err != nil {
			t.Fatal(err)
		}
		filled := func(args []string) []string {
			args = slices.Clone(args)
			for i := range args {
				args[i] = fill.Replace(args[i])
			}
			return args
		}
		if r.check != nil {
			cmd := exec.Command(program, filled(r.check)...)
			cmd.Env = append(os.Environ(), "HOME="+dir)
			if out, err := cmd.CombinedOutput(); err != nil && bytes.Contains(out, []byte(r.cannot)) {
				f.stop()
				t.Skipf("this %s cannot: %s", r.program, bytes.TrimSpace(out))
			}
		}
		if f.start(program, dir, filled(r.args)) {
			return f
		}
		if try == 3 {
			t.Fatalf("%s does not come up", r.program)
		}
	}
}

// start starts the proxy, and waits until the page comes through it, or it ends. It is ended with the test.
func (f *front) start(program, dir string, args []string) bool {
	f.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+dir)
	// A group of its own, and its death with ours: nothing is left.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	out := newOutput()
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, out, limit
	if err := cmd.Start(); err != nil {
		f.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	f.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // of nginx, that of its workers too
		select {
		case <-ended:
		case <-time.After(limit):
			f.Errorf("%s does not end", program)
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		if f.Failed() {
			log, _ := os.ReadFile(dir + "/error.log")
			f.Logf("%s said:\n%s%s", program, out.String(), log)
		}
	})
	c := f.client("127.0.0.1")
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) { // no event tells
		if resp, err := c.Get(f.at("https", "/")); err == nil {
			resp.Body.Close()
			if resp.StatusCode == 200 {
				return true
			}
		}
		select {
		case <-ended:
			return false
		default:
		}
		if time.Since(begin) > limit {
			f.Fatalf("%s does not serve:\n%s", program, out.String())
		}
	}
}

// stop ends the pipe.
func (f *front) stop() {
	f.Helper()
	f.in.Close()
	f.exit(0)
}

func (f *front) at(scheme, path string) string {
	return fmt.Sprintf("%s://example.org:%d%s", scheme, f.port, path)
}

// client is one whose address is ip, which takes the proxy for example.org.
func (f *front) client(ip string) *http.Client {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: limit}
	return &http.Client{Timeout: limit, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return d.DialContext(ctx, network, fmt.Sprint("127.0.0.1:", f.port))
		},
		TLSClientConfig: &tls.Config{RootCAs: f.pool}, DisableKeepAlives: true,
	}}
}

// dialAs opens a WebSocket from ip; origin is that of its page, "" none.
func (f *front) dialAs(ip, origin string, fields ...string) (*client, *http.Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	o := &websocket.DialOptions{HTTPClient: f.client(ip), HTTPHeader: http.Header{}}
	o.HTTPClient.Timeout = 0 // would be that of the WebSocket
	if origin != "" {
		o.HTTPHeader.Set("Origin", origin)
	}
	for i := 0; i < len(fields); i += 2 {
		o.HTTPHeader.Set(fields[i], fields[i+1])
	}
	c, resp, err := websocket.Dial(ctx, f.at("wss", "/ws"), o)
	if err != nil {
		return nil, resp, err
	}
	c.SetReadLimit(-1)
	f.Cleanup(func() { _ = c.CloseNow() })
	return &client{f.TB, c}, resp, nil
}

func (f *front) mustDial(ip string, fields ...string) *client {
	f.Helper()
	c, _, err := f.dialAs(ip, "", fields...)
	if err != nil {
		f.Fatal(err)
	}
	return c
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// certificate puts one for example.org into dir: cert.pem, key.pem, and both in one.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "example.org"}, DNSNames: []string{"example.org"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	kder, err2 := x509.MarshalPKCS8PrivateKey(key)
	cert, kpem := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kder})
	for name, b := range map[string][]byte{"cert.pem": cert, "key.pem": kpem, "both.pem": append(slices.Clone(cert), kpem...)} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	if err = errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return pool
}

// Through each proxy, by its recipe: messages in order over wss://, the client's own address, the origin of its page.
func TestProxy(t *testing.T) {
	for _, r := range recipes {
		t.Run(r.file, func(t *testing.T) {
			f := r.run(t, false, "--max-connections-per-ip", "1")
			page := f.at("https", "")
			a, _, err := f.dialAs("127.0.0.2", page)
			if err != nil {
				t.Fatal("a page of the same origin:", err)
			}
			if _, resp, err := f.dialAs("127.0.0.2", page); err == nil || resp == nil || resp.StatusCode != 429 {
				t.Errorf("a second one of that address: %v, %v; want 429", resp, err)
			}
			// Whatever a client claims, it is who it is.
			b := f.mustDial("127.0.0.3", "X-Forwarded-For", "127.0.0.2, 127.0.0.1")
			peers := f.streams(2)
			if slices.Sort(peers); !slices.Equal(peers, []string{"127.0.0.2", "127.0.0.3"}) {
				t.Errorf("the server sees %q", peers)
			}
			for i, bad := range []string{"https://evil.example", "https://example.org", strings.Replace(page, "org", "com", 1)} {
				// Each from an address of its own: one that was refused counts until it is closed.
				if _, resp, err := f.dialAs(fmt.Sprint("127.0.0.", 10+i), bad); err == nil || resp == nil || resp.StatusCode != 403 {
					t.Errorf("a page of %s: %v, %v; want 403", bad, resp, err)
				}
			}
			if resp, err := f.client("127.0.0.5").Get(f.at("https", "/readyz")); err != nil || resp.StatusCode != 200 {
				t.Errorf("/readyz: %v, %v", resp, err)
			} else {
				resp.Body.Close()
			}
			f.write(lines(0, 3000))
			for i := range 3000 {
				a.gets(fmt.Sprint("line ", i))
				b.gets(fmt.Sprint("line ", i))
			}
			f.untrusted()
			f.in.Close()
			a.closes(websocket.StatusGoingAway, "end of input")
			b.closes(websocket.StatusGoingAway, "end of input")
			f.exit(0)
		})
	}
}

// streams waits until n clients stream, and returns their addresses as the server has them.
func (f *front) streams(n int) (peers []string) {
	f.Helper()
	in, err := instance.Join(f.name, shmem.ReadOnly)
	if err != nil {
		f.Fatal(err)
	}
	defer in.Leave()
	for begin := time.Now(); ; time.Sleep(time.Millisecond) { // no event tells
		peers = nil
		in.Server.Clients(func(c *httpsrv.Client) bool {
			if c.State == "stream" {
				peers = append(peers, c.Peer.Addr().String())
			}
			return true
		})
		if len(peers) == n {
			return peers
		}
		if time.Since(begin) > limit {
			f.Fatalf("%q stream, want %d", peers, n)
		}
	}
}

// untrusted: past the proxy nobody is believed, by whatever header.
func (f *front) untrusted() {
	f.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}, Timeout: limit}
	ask := func(head string) string {
		c, err := d.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(f.url, "http://"), "/"))
		if err != nil {
			f.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(limit))
		_, _ = io.WriteString(c, head)
		b := make([]byte, 512)
		n, _ := io.ReadAtLeast(c, b, 12)
		if n < 12 {
			return ""
		}
		return string(b[9:12])
	}
	hello := "GET /ws HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 127.0.0.2\r\nX-Forwarded-Host: example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	// Of 127.0.0.2 there is one already: were it believed, this were one too many.
	if got := ask(hello + "\r\n"); got != "101" {
		f.Errorf("an upgrade past the proxy: %q", got)
	}
	if got := ask(hello + "Origin: https://example.org\r\n\r\n"); got != "403" {
		f.Errorf("a page of the host that X-Forwarded-Host claims, past the proxy: %q", got)
	}
	got, want := ask("PROXY TCP4 127.0.0.2 127.0.0.1 1 2\r\n"+hello+"\r\n"), ""
	if !strings.Contains(strings.Join(f.cmd.Args, " "), "--proxy-protocol") {
		want = "400"
	}
	if got != want {
		f.Errorf("a PROXY header past the proxy: %q, want %q", got, want)
	}
}

// A silent WebSocket outlives the proxy's time of silence by Tilewire's pings, and not without them.
func TestProxyIdle(t *testing.T) {
	for _, r := range recipes {
		if r.idle == "" {
			continue
		}
		t.Run(r.file, func(t *testing.T) {
			t.Parallel()
			f := r.run(t, true, "--ping-interval", "500ms", "--pong-timeout", "20s")
			c := f.mustDial("127.0.0.1")
			begin, wrote := time.Now(), make(chan struct{})
			go func() { // a client that reads answers pings
				defer close(wrote)
				time.Sleep(3 * proxyIdle) // the time itself is what is tested
				_, _ = io.WriteString(f.in, "at last\n")
			}()
			c.gets("at last")
			if d := time.Since(begin); d < 2*proxyIdle {
				t.Errorf("it was silent for %v only", d)
			}
			<-wrote
			f.stop()
			f = r.run(t, true, "--ping-interval", "0")
			c = f.mustDial("127.0.0.1")
			if s, err := c.next(); err == nil {
				t.Errorf("without pings: %q", s)
			} else if ctx := new(net.Error); errors.As(err, ctx) && (*ctx).Timeout() || errors.Is(err, context.DeadlineExceeded) {
				t.Error("without pings it lives all the same: the time of silence is not what this test takes it for")
			}
			f.stop()
		})
	}
}
