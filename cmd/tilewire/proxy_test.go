package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"
)

// proxies are those of docs/proxy.md, their configurations with PORT, BACKEND and DIR to be filled in.
var proxies = []struct {
	name, protocol string
	args           []string
	file           string
}{
	{"nginx", "off", []string{"-p", "DIR", "-c", "FILE", "-g", "daemon off;"}, `
pid DIR/pid; error_log stderr; worker_processes 1;
events {}
http {
  access_log off; client_body_temp_path DIR/b; proxy_temp_path DIR/p; fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
  server {
    listen 127.0.0.1:PORT ssl; ssl_certificate DIR/site.pem; ssl_certificate_key DIR/site.pem;
    location / {
      proxy_pass http://BACKEND; proxy_http_version 1.1; proxy_set_header Host $host; proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $http_connection; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme; proxy_read_timeout 60s; proxy_buffering off;
    }
  }
}
`},
	{"haproxy", "v2", []string{"-db", "-f", "FILE"}, `
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 60s
frontend https
  bind 127.0.0.1:PORT ssl crt DIR/site.pem
  default_backend tilewire
backend tilewire
  server one BACKEND send-proxy-v2
`},
	{"caddy", "off", []string{"run", "--config", "FILE", "--adapter", "caddyfile"}, `
{
  admin off
  auto_https off
}
https://localhost:PORT {
  bind 127.0.0.1
  tls DIR/site.pem DIR/site.pem
  reverse_proxy BACKEND
}
`},
}

// certificate makes one for localhost, certificate and key in one file.
func certificate(t *testing.T, path string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	b := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k})...)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Through each proxy: wss with messages in order, the page's origin, and the client's own address, by which it is limited.
func TestProxies(t *testing.T) {
	for _, x := range proxies {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			program, err := exec.LookPath(x.name)
			if err != nil {
				program = "/usr/sbin/" + x.name
				if _, err := os.Stat(program); err != nil {
					t.Skipf("%s is not installed", x.name)
				}
			}
			dir := t.TempDir()
			certificate(t, filepath.Join(dir, "site.pem"))
			p := runs(t, "behind"+x.name, "--trusted-proxy", "127.0.0.1", "--proxy-protocol", x.protocol, "--max-connections-per-ip", "2")
			u, err := url.Parse(p.url)
			if err != nil {
				t.Fatal(err)
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			_, port, _ := net.SplitHostPort(ln.Addr().String())
			ln.Close()
			file := filepath.Join(dir, "conf")
			fill := strings.NewReplacer("PORT", port, "BACKEND", u.Host, "DIR", dir, "FILE", file)
			if err := os.WriteFile(file, []byte(fill.Replace(x.file)), 0o644); err != nil {
				t.Fatal(err)
			}
			var args []string
			for _, a := range x.args {
				args = append(args, fill.Replace(a))
			}
			cmd := exec.Command(program, args...)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
			said := &output{more: make(chan struct{})}
			cmd.Stdout, cmd.Stderr = said, said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cmd.Process.Signal(unix.SIGTERM); _ = cmd.Wait() }()
			dial := func(from, origin string) (*websocket.Conn, *http.Response, error) {
				hc := &http.Client{Transport: &http.Transport{
					TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"},
					DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
						d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
						return d.DialContext(ctx, "tcp", "127.0.0.1:"+port)
					},
				}}
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				o := &websocket.DialOptions{HTTPClient: hc, HTTPHeader: http.Header{}}
				if origin != "" {
					o.HTTPHeader.Set("Origin", origin)
				}
				return websocket.Dial(ctx, "wss://localhost:"+port+"/ws", o)
			}
			var c *websocket.Conn
			for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) { // no proxy tells when it is up
				if c, _, err = dial("127.0.0.2", ""); err == nil {
					break
				}
				if time.Since(begin) > limit {
					t.Fatalf("%v: %s", err, said)
				}
			}
			defer c.CloseNow()
			verb(t, 0, "publish", "--name", p.name, "one", "two")
			(&client{p.TB, c}).gets("one", "two")

			if c, _, err := dial("127.0.0.3", "https://elsewhere.example"); err == nil {
				c.CloseNow()
				t.Error("a page from elsewhere may open a WebSocket")
			}
			second, _, err := dial("127.0.0.2", "")
			if err != nil {
				t.Fatal(err)
			}
			defer second.CloseNow()
			third, resp, err := dial("127.0.0.2", "")
			if err == nil {
				third.CloseNow()
				t.Error("a third client of one address is let in: its address is not seen")
			} else if resp != nil && resp.StatusCode != 429 && resp.StatusCode < 500 {
				t.Errorf("a third client of one address: %v", resp.Status)
			}
			other, _, err := dial("127.0.0.4", "")
			if err != nil {
				t.Fatalf("another address: %v", err)
			}
			other.CloseNow()
			if out, _ := verb(t, 0, "clients", "--name", p.name, "--json"); !strings.Contains(out, "127.0.0.2") {
				t.Errorf("clients: %s", out)
			}
			p.signal(unix.SIGTERM)
			p.exit(0)
		})
	}
}
