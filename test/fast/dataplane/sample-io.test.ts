import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { openDescriptors, pattern, pipe, socketpair, startPlane } from './sockets.js';

const code = (name: string) => expect.objectContaining({ code: name });

describe('SampleIo', () => {
  it('reads exactly what was asked for, however it arrives', async () => {
    const [source, sink] = pipe();
    using io = startPlane().openSampleIo(source.fd);
    const read = io.read(10, 0);
    const next = io.read(3, 0);
    for (const byte of pattern(13)) {
      writeSync(sink.fd, Uint8Array.of(byte));
    }
    expect([...(await read), ...(await next)]).toEqual([...pattern(13)]);
  });

  it('a read that times out keeps what has arrived for the next one', async () => {
    const [source, sink] = pipe();
    using io = startPlane().openSampleIo(source.fd);
    writeSync(sink.fd, pattern(5));
    await expect(io.read(8, 20)).rejects.toThrow(code('ETIMEDOUT'));
    const read = io.read(8, 0);
    writeSync(sink.fd, pattern(8).subarray(5));
    expect([...(await read)]).toEqual([...pattern(8)]);
  });

  it('readSome takes what is there, up to a maximum', async () => {
    const [source, sink] = pipe();
    using io = startPlane().openSampleIo(source.fd);
    const waiting = io.readSome(16, 0);
    writeSync(sink.fd, pattern(40));
    expect((await waiting).byteLength).toBe(16);
    expect((await io.readSome(16, 0)).byteLength).toBe(16);
    expect((await io.readSome(16, 0)).byteLength).toBe(8);
    await expect(io.readSome(16, 10)).rejects.toThrow(code('ETIMEDOUT'));
  });

  it('moves megabytes through a pipe bit by bit exactly, both ways at once', async () => {
    const [left, right] = socketpair();
    const plane = startPlane();
    using a = plane.openSampleIo(left.fd);
    using b = plane.openSampleIo(right.fd);
    const sent = pattern(3 * 1024 * 1024);
    const writes = Promise.all([a.write(sent, 5000), b.write(sent, 5000)]);
    const [atB, atA] = await Promise.all([b.read(sent.byteLength, 5000), a.read(sent.byteLength, 5000)]);
    await writes;
    expect(Buffer.compare(atA, sent)).toBe(0);
    expect(Buffer.compare(atB, sent)).toBe(0);
  });

  it('a write that nobody reads times out, and a later one goes on', async () => {
    const [source, sink] = pipe();
    using io = startPlane().openSampleIo(sink.fd);
    await expect(io.write(pattern(1024 * 1024), 20)).rejects.toThrow(code('ETIMEDOUT'));
    const drained = new Uint8Array(2 * 1024 * 1024);
    const inThePipe = readSync(source.fd, drained);
    await io.write(pattern(100), 0);
    expect(readSync(source.fd, drained)).toBe(100);
    expect(inThePipe).toBeGreaterThan(0);
  });

  it('close ends pending calls with EBADF, and later ones too', async () => {
    const [left] = socketpair();
    const io = startPlane().openSampleIo(left.fd);
    const much = pattern(8 * 1024 * 1024);
    const pending = [io.read(4, 0), io.readSome(4, 60_000), io.write(much, 0)];
    const ends = pending.map((call) => expect(call).rejects.toThrow(code('EBADF')));
    io.close();
    await Promise.all(ends);
    await expect(io.read(1, 0)).rejects.toThrow(code('EBADF'));
    await expect(io.write(pattern(1), 0)).rejects.toThrow(code('EBADF'));
  });

  it('tells the end of the file and the errno of the call', async () => {
    const plane = startPlane();
    const [source, sink] = pipe();
    using reader = plane.openSampleIo(source.fd);
    using wrongWay = plane.openSampleIo(sink.fd);
    await expect(wrongWay.read(1, 0)).rejects.toThrow(code('EBADF'));
    const read = expect(reader.read(4, 0)).rejects.toThrow(code('EPIPE'));
    wrongWay.close();
    sink.close();
    await read;
  });

  it('refuses a blocking descriptor, which would stop every stream', () => {
    const fd = openSync('/dev/zero', constants.O_RDONLY);
    onTestFinished(() => closeSync(fd));
    expect(() => startPlane().openSampleIo(fd)).toThrow(code('EINVAL'));
    expect(() => startPlane().openSampleIo(9999)).toThrow(code('EBADF'));
  });

  it('leaves no descriptor behind', async () => {
    const plane = startPlane();
    const [source, sink] = pipe();
    const before = openDescriptors();
    for (let i = 0; i < 100; i++) {
      using io = plane.openSampleIo(source.fd);
      writeSync(sink.fd, pattern(4));
      await io.read(4, 0);
    }
    // A call that is answered comes after the closing of the last one.
    using last = plane.openSampleIo(source.fd);
    await expect(last.read(1, 1)).rejects.toThrow(code('ETIMEDOUT'));
    expect(openDescriptors()).toBe(before + 1);
  });

  it('the end of the data plane ends pending calls', async () => {
    const plane = startPlane();
    const [source] = pipe();
    const io = plane.openSampleIo(source.fd);
    const pending = expect(io.read(4, 0)).rejects.toThrow(code('ESHUTDOWN'));
    plane.close();
    await pending;
    expect(() => plane.openSampleIo(source.fd)).toThrow(code('ESHUTDOWN'));
  });
});
