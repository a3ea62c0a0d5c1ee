// What a user sees of the live page, in a real Chromium.
//
//   node page.mjs OUT_DIR -- COMMAND...   the whole story: starts COMMAND (`{addr}` = address to listen on),
//                                         feeds its standard input, ends it, kills it
//   node page.mjs OUT_DIR BASE_URL        looks at a server that runs already
//
// Screenshots go to OUT_DIR. Exit 0 when every step holds, 1 at the first that does not, 2 for bad usage.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { Server, freeAddress } from './server.mjs';

const [out, ...rest] = process.argv.slice(2);
const command = rest[0] === '--' ? rest.slice(1) : null;
if (!out || !(command ? command.length : /^https?:/.test(rest[0] ?? ''))) {
  console.error('usage: node page.mjs OUT_DIR (BASE_URL | -- COMMAND...)');
  process.exit(2);
}
mkdirSync(out, { recursive: true });

const LIMIT = 10_000; // ms that anything may take to show
const sizes = { wide: { width: 1280, height: 760 }, narrow: { width: 390, height: 780 } };
const servers = [];
const complaints = []; // console errors and page errors, each a failure unless a step expects it
let browser, page, home;

// ---- what the page shows

const text = (id) => page.locator(`#${id}`).textContent();
const rows = () => page.locator('.row').allTextContents();
const number = async (id) => Number((await text(id)).replaceAll(',', ''));

async function until(what, test, arg) {
  try {
    await page.waitForFunction(test, arg, { timeout: LIMIT, polling: 20 });
  } catch (e) {
    throw new Error(`${what}: not within ${LIMIT} ms (${e.message.split('\n')[0]})`);
  }
}
const state = (name) => until(`state ${name}`, (s) => document.body.dataset.state === s, name);
const onlyRows = (list) => until(`the lines ${JSON.stringify(list)}`, (want) => JSON.stringify([...document.querySelectorAll('.row')].map((r) => r.textContent)) === want, JSON.stringify(list));
const lastRow = (s) => until(`last line ${JSON.stringify(s)}`, (want) => [...document.querySelectorAll('.row')].at(-1)?.textContent === want, s);
// Rows and notes are drawn with the next frame, the state at once.
const lastNote = (re) => until(`last note ${re}`, (want) => new RegExp(want).test([...document.querySelectorAll('.note')].at(-1)?.textContent ?? ''), re.source);
// The limit is for one message more: how long all of many take depends on what else the machine does.
const counts = (n) => until(`message ${n}`, (want) => Number(document.getElementById('count').textContent.replace(/\D/g, '')) >= want, n);
const drawn = () => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
const atEnd = () => page.evaluate(() => { const l = document.getElementById('log'); return l.scrollHeight - l.scrollTop - l.clientHeight < 2; });

async function open(url) {
  await page?.close();
  page = await browser.newPage({ viewport: sizes.wide });
  page.on('pageerror', (e) => complaints.push(e.message));
  page.on('console', (m) => { if (m.type() === 'error') complaints.push(m.text()); });
  page.on('request', (r) => { if (!r.url().startsWith(url) && !r.url().startsWith('data:')) complaints.push(`asked for ${r.url()}`); });
  page.on('dialog', (d) => { complaints.push(`dialog: ${d.message()}`); d.dismiss(); });
  await page.goto(url);
  await state('live');
}

// mainThread follows the CPU time of the page's thread: a frame that is late because others have the CPUs is not its doing.
async function mainThread() {
  const cdp = await browser.newBrowserCDPSession();
  const { processInfo } = await cdp.send('SystemInfo.getProcessInfo');
  await cdp.detach();
  const { id } = processInfo.filter((p) => p.type === 'renderer').sort((a, b) => b.cpuTime - a.cpuTime)[0];
  const samples = []; // [when, ms it has run until then]
  const look = () => samples.push([Date.now(), Number(readFileSync(`/proc/${id}/task/${id}/schedstat`, 'utf8').split(' ')[0]) / 1e6]);
  look();
  const timer = setInterval(look, 20);
  return {
    stop() { clearInterval(timer); look(); },
    // From the last look before to the first one after: at least what was used.
    within(from, to) {
      const first = samples.findLast(([t]) => t <= from) ?? samples[0], last = samples.find(([t]) => t >= to) ?? samples.at(-1);
      return last[1] - first[1];
    },
  };
}

async function shoot(name) {
  for (const [size, viewport] of Object.entries(sizes)) {
    await page.setViewportSize(viewport);
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      await drawn();
      await page.screenshot({ path: join(out, `${name}-${size}-${colorScheme}.png`) });
      const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wider <= 0, `${name} ${size}: the page itself scrolls sideways by ${wider} px`);
    }
  }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize(sizes.wide);
}

async function start(addr) {
  const s = new Server(command, addr);
  servers.push(s);
  await s.ready();
  return s;
}

// ---- the story

const steps = [];
const step = (name, run) => steps.push({ name, run });
let srv, addr;

step('connects and says so', async () => {
  if (command) {
    addr = await freeAddress();
    srv = await start(addr);
  }
  home = command ? srv.url : new URL(rest[0]).href;
  await open(home);
  assert.equal(await text('pill'), 'Live');
  assert.match(await page.title(), /^Live · /);
  assert.match(await text('detail'), /^wss?:\/\/.*\/ws$/);
});

if (command) {
  step('says what it waits for', async () => {
    assert.equal(await text('count'), '0');
    await shoot('waiting');
  });

  step('shows every line, in order', async () => {
    const lines = Array.from({ length: 300 }, (_, i) => `line ${i + 1}`);
    for (const l of lines) await srv.line(l);
    await lastRow('line 300');
    assert.deepEqual(await rows(), lines);
    assert.equal(await number('count'), 300);
    assert.ok(await atEnd(), 'the view follows the tail');
  });

  step('keeps Unicode, blanks, tabs and empty lines', async () => {
    const lines = ['grün 東京 — Привет, мир', '🧵 👩‍🚀 e\u0301', '  two  blanks\tand a tab', '', 'ends here'];
    await page.locator('#clear').click();
    await srv.line(...lines);
    await lastRow('ends here');
    assert.deepEqual(await rows(), lines);
  });

  step('shows control characters as pictures', async () => {
    await srv.line('\x1b[31mred\x1b[0m\x07');
    await lastRow('␛[31mred␛[0m␇');
  });

  step('shows markup as text', async () => {
    const evil = '<img src=x onerror=alert(1)><script>alert(2)</script><b>&amp;</b>';
    await srv.line(evil);
    await lastRow(evil);
    assert.equal(await page.locator('#log img, #log script, #log b').count(), 0);
  });

  step('previews binary messages', async () => {
    await srv.write(Buffer.from([0xff, 0xfe, 0x00, 0x68, 0x69, 0x0a]));
    await lastRow('binary 5 B  ff fe 00 68 69  ···hi');
    await srv.write(Buffer.concat([Buffer.alloc(2000, 0x80), Buffer.from('\n')]));
    await until('a long binary message', () => /^binary 2,000 B {2}80( 80)+ … {2}·+$/.test([...document.querySelectorAll('.row')].at(-1).textContent));
  });

  step('says how much of a long line is not shown', async () => {
    await srv.line('x'.repeat(10_000));
    await lastRow('x'.repeat(4096) + ' … 5,904 characters more');
  });

  step('pauses and resumes', async () => {
    await page.locator('#clear').click();
    await srv.line('before');
    await lastRow('before');
    const was = await number('count');
    await page.locator('#pause').click();
    await srv.line('a', 'b', 'c');
    await until('three waiting', () => /\b3 waiting/.test(document.getElementById('held').textContent));
    await drawn();
    assert.deepEqual(await rows(), ['before']);
    assert.equal(await number('count'), was + 3, 'counting goes on');
    assert.match(await page.title(), /^Paused · Live/);
    await page.locator('#pause').click();
    await lastRow('c');
    assert.deepEqual(await rows(), ['before', 'a', 'b', 'c']);
  });

  step('filters, and marks what it found', async () => {
    await srv.line('GET /a.b 200', 'GET /axb 404', 'post /A.B 500');
    await lastRow('post /A.B 500');
    await page.keyboard.press('/');
    await page.keyboard.type('a.b');
    await onlyRows(['GET /a.b 200', 'post /A.B 500']);
    assert.deepEqual(await page.locator('mark').allTextContents(), ['a.b', 'A.B']);
    await srv.line('nothing', 'late a.b');
    await onlyRows(['GET /a.b 200', 'post /A.B 500', 'late a.b']);
    assert.equal(await text('kept'), '3 matching lines');
    await page.keyboard.press('Escape');
    await onlyRows(['before', 'a', 'b', 'c', 'GET /a.b 200', 'GET /axb 404', 'post /A.B 500', 'nothing', 'late a.b']);
  });

  step('obeys the keyboard', async () => {
    await page.locator('#log').focus();
    await page.keyboard.press('p');
    assert.equal(await text('pause'), 'Resume');
    await page.keyboard.press('p');
    await page.keyboard.press('w');
    assert.equal(await page.locator('#wrap').getAttribute('aria-pressed'), 'true');
    await page.keyboard.press('w');
    await page.keyboard.press('c');
    await onlyRows([]);
    await page.keyboard.press('/');
    const stops = [];
    for (let i = 0; i < 5; i++) {
      await page.keyboard.press('Tab');
      stops.push(await page.evaluate(() => document.activeElement.id));
    }
    assert.deepEqual(stops, ['pause', 'clear', 'wrap', 'times', 'log']);
  });

  step('stays where the reader scrolled to', async () => {
    await srv.line(...Array.from({ length: 500 }, (_, i) => `scroll ${i}`));
    await lastRow('scroll 499');
    await page.locator('#log').hover();
    await page.mouse.wheel(0, -1500);
    await until('the way back', () => !document.getElementById('follow').hidden);
    // The wheel's event comes before the scrolling, which may be smooth: the position is read once it is all done.
    await until('a view 1,500 px up', () => {
      const log = document.getElementById('log');
      return Math.round(log.scrollHeight - log.scrollTop - log.clientHeight) === 1500;
    });
    const top = await page.evaluate(() => document.getElementById('log').scrollTop);
    const had = await number('count');
    await srv.line(...Array.from({ length: 3000 }, (_, i) => `below ${i}`));
    // How many of them wait depends on how many came between two frames: what the page can't keep it skips, and says so.
    await until('lines that wait below', (n) => Number(document.getElementById('count').textContent.replace(/\D/g, '')) === n &&
      /^↓ [\d,]+\+? new$/.test(document.getElementById('follow').textContent), had + 3000);
    await drawn();
    assert.equal(await page.evaluate(() => document.getElementById('log').scrollTop), top, 'the text being read did not move');
    await shoot('scrolled');
    await page.locator('#follow').click();
    await lastRow('below 2999');
    assert.ok(await atEnd());
    assert.equal(await page.locator('#follow').isVisible(), false);
  });

  step('takes 10,000 lines a second without freezing', async () => {
    await page.locator('#clear').click();
    const was = await number('count');
    await page.evaluate(() => {
      window.frames = [];
      let last = performance.timeOrigin + performance.now();
      (function tick() {
        const t = performance.timeOrigin + performance.now();
        window.frames.push([last, t]);
        last = t;
        if (!window.enough) requestAnimationFrame(tick);
      })();
    });
    const busy = await mainThread();
    const total = 30_000, perTick = 200, begin = Date.now();
    for (let i = 0; i < total; i += perTick) {
      await srv.line(...Array.from({ length: perTick }, (_, k) => `fast ${i + k} ${'.'.repeat(60)}`));
      const ahead = begin + (i + perTick) / 10 - Date.now();
      if (ahead > 0) await new Promise((resolve) => setTimeout(resolve, ahead));
    }
    for (let n = await number('count'); n < was + total; n = await number('count')) await counts(n + 1);
    await lastRow(`fast ${total - 1} ${'.'.repeat(60)}`);
    const frames = await page.evaluate(() => { window.enough = true; return window.frames; });
    busy.stop();
    const longest = Math.max(...frames.map(([from, to]) => to - from));
    const busiest = Math.max(...frames.map(([from, to]) => busy.within(from, to)));
    assert.equal(await number('count') - was, total, 'every line is counted');
    const shown = await rows();
    assert.equal(shown.length, 2000, 'the document is bounded');
    const skipped = Number(/^([\d,]+)/.exec(await text('skipped'))?.[1].replaceAll(',', '') ?? 0);
    if (!skipped) shown.forEach((l, i) => assert.ok(l.startsWith(`fast ${total - 2000 + i} `), `order at ${i}: ${l}`));
    assert.ok(busiest < 1000, `a frame took ${busiest.toFixed(0)} ms of the page's thread`);
    return `longest frame ${longest.toFixed(0)} ms, at most ${busiest.toFixed(0)} ms of one used by the page, ${skipped} skipped in the view`;
  });

  step('looks right with a stream', async () => {
    await page.locator('#clear').click();
    const dice = (n) => Math.floor(Math.abs(Math.sin(n * 12.9898) * 43758.5453) * 1000) % 1000;
    for (let i = 0; i < 60; i++) {
      const n = (k, w) => String(dice(i * 17 + k)).padStart(w);
      await srv.line(i % 20 === 0 ? ' r  b   swpd   free   buff  cache   si   so    bi    bo   in   cs us sy id wa st'
        : ` ${i % 3}  0      0 ${6412000 + dice(i)} 184${n(1, 3)} 91${n(2, 3)}40    0    0 ${n(3, 5)} ${n(4, 5)} ${n(5, 4)} ${n(6, 4)} ${String(dice(i) % 40).padStart(2)}  3 ${60 - (dice(i) % 40)}  0  0`);
    }
    await srv.write(Buffer.from('\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01 a picture, not a line\n', 'latin1'));
    await srv.line('{"seq":48213,"ts":"2031-05-04T10:11:12.131Z","data":{"symbol":"ÅKR","bid":101.25,"ask":101.5,"note":"Größe <b>42</b> 東京"}}');
    await until('the stream', () => /ÅKR/.test([...document.querySelectorAll('.row')].at(-1)?.textContent));
    await shoot('live');
    await page.locator('#times').click();
    await page.locator('#wrap').click();
    await page.locator('#filter').fill('184');
    await shoot('filtered');
    await page.locator('#filter').fill('');
    await page.locator('#times').click();
    await page.locator('#wrap').click();
  });

  step('says that the input has ended', async () => {
    const [how] = await Promise.all([srv.end(), state('ended')]);
    assert.equal(how, 'exit 0');
    assert.equal(await text('pill'), 'Ended');
    assert.equal(await text('detail'), 'end of input (1001)');
    assert.match(await page.title(), /^Ended · /);
    await lastNote(/End of input\. The server closed the stream \(1001\)\.$/);
    assert.equal(await page.locator('#again').textContent(), 'Connect again');
    await shoot('ended');
  });

  step('says that it lost the server, and comes back by itself', async () => {
    srv = await start(addr);
    await open(home);
    await srv.line('the last line');
    await lastRow('the last line');
    await srv.kill();
    // At one moment: an attempt is due in half a second or less, and changes the pill.
    await until('how long it waits, and why', () => document.body.dataset.state === 'waiting' &&
      /^Reconnecting in \d+ s$/.test(document.getElementById('pill').textContent) &&
      /connection lost \(1006\)|no answer from the server/.test(document.getElementById('detail').textContent) &&
      /^Reconnecting · /.test(document.title));
    await shoot('reconnecting');
    srv = await start(addr);
    await state('live');
    await lastNote(/Connected again after .* Lines sent meanwhile are not shown\.$/);
    await srv.line('and on');
    await lastRow('and on');
    await srv.end();
    await state('ended');
    // A refused attempt is an error in the console of every browser; here it is expected.
    for (let i = complaints.length - 1; i >= 0; i--) if (/WebSocket connection to .* failed/.test(complaints[i])) complaints.splice(i, 1);
  });
} else {
  step('looks right', () => shoot('live'));
}

// ---- run

let failed = false;
try {
  // Playwright gives every launch an empty temporary profile and removes it.
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  for (const { name, run } of steps) {
    const begin = Date.now();
    const more = await run().catch((e) => { e.message = `${name}: ${e.message}`; throw e; });
    assert.deepEqual(complaints, [], `${name}: the browser complained`);
    console.log(`ok   ${name} (${Date.now() - begin} ms)${more ? ': ' + more : ''}`);
  }
  console.log(`page: ${steps.length} steps, screenshots in ${out}`);
} catch (e) {
  failed = true;
  console.error(`FAIL ${e.message}`);
  if (complaints.length) console.error('the browser said:\n  ' + complaints.join('\n  '));
  await page?.screenshot({ path: join(out, 'failure.png') }).catch(() => {});
} finally {
  await browser?.close();
  for (const s of servers) await s.kill();
}
process.exit(failed ? 1 : 0);
