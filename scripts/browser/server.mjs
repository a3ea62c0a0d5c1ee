// The server under test as a process of its own: its standard input is the stream, its end is the end of input.
import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { once } from 'node:events';

// freeAddress returns a loopback address that nobody listens on at this moment. Clients connect from 127.0.0.1: on
// another address none of them takes the port while the server is down, or even connects to itself.
export async function freeAddress() {
  const probe = createServer().listen(0, '127.0.70.1');
  await once(probe, 'listening');
  const { address, port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return `${address}:${port}`;
}

// Server runs one command; `{addr}` in its arguments stands for the address to listen on.
export class Server {
  constructor(command, addr) {
    const [file, ...args] = command.map((a) => a.replaceAll('{addr}', addr));
    this.name = command.join(' ');
    this.url = `http://${addr}/`;
    this.said = '';
    this.child = spawn(file, args, { stdio: ['pipe', 'ignore', 'pipe'] });
    this.gone = new Promise((resolve) => {
      this.child.once('error', (e) => resolve(`did not start: ${e.message}`));
      this.child.once('exit', (code, signal) => resolve(signal ?? `exit ${code}`));
    });
    this.child.stderr.on('data', (d) => { this.said = (this.said + d).slice(-4000); });
    this.child.stdin.on('error', () => {}); // a server that is gone is found by what the page shows
  }

  // ready waits until the page is served; it rejects with what the server said when it ends before.
  async ready(limitMs = 15000) {
    const end = Date.now() + limitMs;
    let gone = null;
    this.gone.then((how) => { gone = how; });
    for (;;) {
      try {
        const r = await fetch(this.url, { signal: AbortSignal.timeout(1000) });
        if (r.ok) return;
      } catch { /* not yet */ }
      if (gone !== null) throw new Error(`${this.name}: ${gone}\n${this.said}`);
      if (Date.now() > end) throw new Error(`${this.name}: no page at ${this.url} within ${limitMs} ms\n${this.said}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  // write sends bytes or text; it resolves when the pipe has taken them.
  write(data) {
    return new Promise((resolve) => this.child.stdin.write(data, () => resolve()));
  }

  line(...lines) {
    return this.write(lines.map((l) => l + '\n').join(''));
  }

  end() { this.child.stdin.end(); return this.gone; }

  kill() { this.child.kill('SIGKILL'); return this.gone; }
}
