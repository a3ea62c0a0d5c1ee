"""Debian's python3-websockets against `tilewire echo`: interop.py URL"""
import asyncio
import sys

import websockets


async def main(url):
    # It offers permessage-deflate; the server declines.
    async with websockets.connect(url, max_size=None, ping_interval=None) as ws:
        assert ws.extensions == [], ws.extensions
        for n in (0, 1, 125, 126, 65535, 65536, 1 << 20, 16 << 20):
            text = ("größe " * (n // 7 + 1)).encode()[:n].decode(errors="ignore")
            await ws.send(text)
            assert await ws.recv() == text, n
            await ws.send(b"\xff" * n)
            assert await ws.recv() == b"\xff" * n, n
        await ws.send(iter(["frag", "", "mented"]))
        assert await ws.recv() == "fragmented"
        for i in range(50):
            await asyncio.wait_for(await ws.ping(str(i)), 10)
        sent = [str(i) * (i % 300) for i in range(2000)]

        async def write():
            for s in sent:
                await ws.send(s)

        writing = asyncio.create_task(write())
        for s in sent:
            assert await ws.recv() == s
        await writing
        await ws.close(3001, "done")
        assert (ws.close_code, ws.close_reason) == (3001, ""), (ws.close_code, ws.close_reason)
    try:
        async with websockets.connect(url, max_size=None) as ws:
            await ws.send(b"x" * ((16 << 20) + 1))
            await ws.recv()
    except websockets.ConnectionClosed as e:
        assert e.rcvd is not None and e.rcvd.code == 1009, e
    else:
        raise AssertionError("an oversize message was taken")
    print("ok", websockets.__version__)


asyncio.run(asyncio.wait_for(main(sys.argv[1]), 60))
