import { describe, expect, it } from 'vitest';
import { ADC, DAC, type FakeLink, TextBench } from './text-fakes.js';

/** Sample sets of the ADC, whose channel c shows 256 c + n in sample set n. */
function samples(channels: readonly number[], first: number, count: number): Buffer {
  const words = Array.from({ length: count }, (_, n) => channels.map((channel) => 256 * channel + first + n)).flat();
  return Buffer.from(Uint16Array.from(words).buffer);
}

async function open(link: FakeLink, device: string, blockSamples: number, mask: string, flags = ''): Promise<string> {
  link.type(`OPEN ${device} ${blockSamples} ${mask}${flags}\r\n`);
  return (await link.receiveText(1)).join('');
}

interface Answer {
  /** Sizes of the chunks, and the integer that ended the answer early. */
  readonly integers: number[];
  readonly mask: string | undefined;
  readonly data: Uint8Array;
}

/** Receives the answer to READBUF as libiio does. */
async function receiveAnswer(link: FakeLink, bytes: number): Promise<Answer> {
  const integers: number[] = [];
  const data: Uint8Array[] = [];
  let mask: string | undefined;
  for (let left = bytes; left > 0; ) {
    const size = Number((await link.receiveText(1)).join(''));
    integers.push(size);
    if (size <= 0) {
      break;
    }
    mask ??= (await link.receiveText(1)).join('');
    const [chunk = new Uint8Array(0)] = await link.receive(1);
    expect(chunk.byteLength).toBe(size);
    data.push(chunk);
    left -= size;
  }
  return { integers, mask, data: Buffer.concat(data) };
}

function readBuffer(link: FakeLink, bytes: number): Promise<Answer> {
  link.type(`READBUF ${ADC} ${bytes}\r\n`);
  return receiveAnswer(link, bytes);
}

async function until(condition: () => boolean): Promise<void> {
  await expect.poll(condition, { interval: 1, timeout: 2000 }).toBe(true);
}

describe('READBUF', () => {
  it('answers a request of one block with one chunk and the mask', async () => {
    const bench = new TextBench();
    const { link } = bench.connect();
    expect(await open(link, ADC, 64, '00000003')).toBe('0\n');
    expect(bench.backend.buffer.lengths).toEqual({ length: 256, watermark: 32 });
    bench.backend.buffer.produce(samples([0, 1], 0, 64));

    link.type(`READBUF ${ADC} 256\r\n`);

    const [size, mask, data] = await link.receive(3);
    expect([size, mask].map((transfer) => new TextDecoder().decode(transfer))).toEqual(['256\n', '00000003\n']);
    expect(Buffer.from(data ?? [])).toEqual(samples([0, 1], 0, 64));
  });

  it('delivers a long request block by block, with the mask before the first only', async () => {
    const bench = new TextBench();
    const { link } = bench.connect();
    await open(link, ADC, 16, '00000001');
    bench.backend.buffer.produce(samples([0], 0, 40));
    const answer = await readBuffer(link, 80 - 16);
    expect(answer.integers).toEqual([32, 32]);
    expect(answer.mask).toBe('00000001\n');
    expect(answer.data).toEqual(samples([0], 0, 32));
  });

  it('keeps the rest of a block for the next request', async () => {
    const bench = new TextBench();
    const { link } = bench.connect();
    await open(link, ADC, 16, '00000001');
    bench.backend.buffer.produce(samples([0], 0, 32));
    const sizes: number[][] = [];
    const data: Uint8Array[] = [];
    for (let i = 0; i < 4; i++) {
      const answer = await readBuffer(link, 12);
      sizes.push(answer.integers);
      data.push(answer.data);
      expect(answer.mask).toBe('00000001\n');
    }
    expect(sizes).toEqual([[12], [12], [8, 4], [12]]);
    expect(Buffer.concat(data)).toEqual(samples([0], 0, 24));
  });

  it('ends with 0 where less than a sample set remains', async () => {
    const bench = new TextBench();
    const { link } = bench.connect();
    await open(link, ADC, 2, '00000003');
    bench.backend.buffer.produce(samples([0, 1], 0, 4));
    expect((await readBuffer(link, 11)).integers).toEqual([8, 0]);
  });

  it('says which channels the device switched on by itself', async () => {
    const bench = new TextBench();
    bench.backend.coupled = [1];
    const { link } = bench.connect();
    await open(link, ADC, 2, '00000001');
    bench.backend.buffer.produce(samples([0, 1], 0, 2));
    expect(await readBuffer(link, 8)).toMatchObject({ mask: '00000003\n', data: samples([0, 1], 0, 2) });
  });

  it('times out, and loses nothing by it', async () => {
    const bench = new TextBench();
    const { link } = bench.connect();
    link.type('TIMEOUT 20\r\n');
    expect(await link.receiveText(1)).toEqual(['0\n']);
    await open(link, ADC, 4, '00000001');
    bench.backend.buffer.produce(samples([0], 0, 3));
    expect((await readBuffer(link, 8)).integers).toEqual([-110]);
    bench.backend.buffer.produce(samples([0], 3, 5));
    expect((await readBuffer(link, 16)).data).toEqual(samples([0], 0, 8));
  });

  it('waits as long as the same host has said on another link, unless it was told itself', async () => {
    const bench = new TextBench();
    const host = {};
    const main = bench.connect(host).link;
    main.type('TIMEOUT 30\r\n');
    await main.receive(1);
    const { link } = bench.connect(host);
    await open(link, ADC, 4, '00000001');
    const started = performance.now();
    expect((await readBuffer(link, 8)).integers).toEqual([-110]);
    expect(performance.now() - started).toBeLessThan(900);

    link.type('TIMEOUT 1\r\n');
    await link.receive(1);
    main.type('TIMEOUT 60000\r\n');
    await main.receive(1);
    expect((await readBuffer(link, 8)).integers).toEqual([-110]);
  });

  it('hands on what the device fails with, each time', async () => {
    const bench = new TextBench();
    const { link } = bench.connect();
    await open(link, ADC, 4, '00000001');
    bench.backend.buffer.fail();
    expect((await readBuffer(link, 8)).integers).toEqual([-32]);
    expect((await readBuffer(link, 8)).integers).toEqual([-32]);
    link.type(`CLOSE ${ADC}\r\n`);
    expect(await link.receiveText(1)).toEqual(['0\n']);
  });

  it('fetches no more samples than a client reads', async () => {
    const bench = new TextBench();
    const { link } = bench.connect();
    await open(link, ADC, 4, '00000001');
    bench.backend.buffer.produce(samples([0], 0, 40));
    link.stalled = true;
    link.type(`READBUF ${ADC} 64\r\n`);
    await link.receive(3);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(link.transfers).toEqual([]);
    link.readOn();
    expect(await receiveRest(link)).toEqual([8, 8, 8, 8, 8, 8, 8]);
  });

  async function receiveRest(link: FakeLink): Promise<number[]> {
    const transfers = await link.receive(14);
    return transfers.filter((_, i) => i % 2 === 1).map((chunk) => chunk.byteLength);
  }
});

describe('clients of one buffer', () => {
  it('get the channels of all of them, in blocks of the longest', async () => {
    const bench = new TextBench();
    const [a, b] = [bench.connect().link, bench.connect().link];
    await open(a, ADC, 4, '00000001');
    expect(await open(b, ADC, 8, '00000002')).toBe('0\n');
    const { buffer } = bench.backend;
    expect(bench.backend.buffers.map(({ closed }) => closed)).toEqual([true, false]);
    expect([buffer.mask.toText(), buffer.lengths]).toEqual(['00000003', { length: 32, watermark: 4 }]);

    buffer.produce(samples([0, 1], 0, 8));
    const answers = await Promise.all([readBuffer(a, 16), readBuffer(b, 32)]);

    expect(answers.map(({ mask }) => mask)).toEqual(['00000003\n', '00000003\n']);
    expect(answers[0].data).toEqual(samples([0, 1], 0, 4));
    expect(answers[1].data).toEqual(samples([0, 1], 0, 8));
    expect((await readBuffer(a, 16)).data).toEqual(samples([0, 1], 4, 4));
  });

  it('get their own channels only where the server demultiplexes', async () => {
    const bench = new TextBench({ demux: true });
    const [a, b] = [bench.connect().link, bench.connect().link];
    await open(a, ADC, 4, '00000001');
    await open(b, ADC, 4, '00000002');
    bench.backend.buffer.produce(samples([0, 1], 0, 8));
    const answers = await Promise.all([readBuffer(a, 12), readBuffer(b, 16)]);
    expect(answers[0]).toMatchObject({ integers: [8, 4], mask: '00000001\n', data: samples([0], 0, 6) });
    expect(answers[1]).toMatchObject({ integers: [8, 8], mask: '00000002\n', data: samples([1], 0, 8) });
  });

  it('see every block from their coming on, as long as they fetch them', async () => {
    const bench = new TextBench();
    const [a, b] = [bench.connect().link, bench.connect().link];
    await open(a, ADC, 4, '00000001');
    await open(b, ADC, 4, '00000001');
    // No reason to open it anew.
    expect(bench.backend.buffers).toHaveLength(1);
    bench.backend.buffer.produce(samples([0], 0, 16));
    expect((await readBuffer(a, 32)).data).toEqual(samples([0], 0, 16));
    expect((await readBuffer(b, 32)).data).toEqual(samples([0], 0, 16));
    expect(bench.log.warnings).toEqual([]);
  });

  it('lose blocks that they do not fetch, without holding up the others', async () => {
    const bench = new TextBench();
    const fast = bench.connect().link;
    const slow = bench.connect();
    await open(fast, ADC, 4, '00000001');
    await open(slow.link, ADC, 4, '00000001');
    bench.backend.buffer.produce(samples([0], 0, 80));
    expect((await readBuffer(fast, 160)).data).toEqual(samples([0], 0, 80));
    // 4 blocks wait for the slow one.
    expect((await readBuffer(slow.link, 32)).data).toEqual(samples([0], 0, 16));
    bench.backend.buffer.produce(samples([0], 80, 4));
    expect((await readBuffer(slow.link, 8)).data).toEqual(samples([0], 80, 4));
    expect(bench.log.warnings).toEqual([]);
    slow.link.end();
    await slow.ended;
    expect(bench.log.warnings).toHaveLength(1);
  });

  it('may leave while another reads, which then gets its own channels again', async () => {
    const bench = new TextBench();
    const a = bench.connect().link;
    const b = bench.connect();
    await open(a, ADC, 4, '00000001');
    await open(b.link, ADC, 4, '00000002');
    const answer = readBuffer(a, 16);
    const shared = bench.backend.buffer;
    shared.produce(samples([0, 1], 0, 2));

    b.link.end();
    await b.ended;

    expect(shared.closed).toBe(true);
    const { buffer } = bench.backend;
    expect(buffer.mask.toText()).toBe('00000001');
    buffer.produce(samples([0], 0, 8));
    expect(await answer).toMatchObject({ integers: [8, 8], mask: '00000001\n' });
  });

  it('get a short answer where the channels change in the middle of it', async () => {
    const bench = new TextBench();
    const [a, b] = [bench.connect().link, bench.connect().link];
    await open(a, ADC, 4, '00000001');
    bench.backend.buffer.produce(samples([0], 0, 4));
    a.type(`READBUF ${ADC} 24\r\n`);
    expect((await a.receiveText(3)).slice(0, 2)).toEqual(['8\n', '00000001\n']);
    await open(b, ADC, 4, '00000002');
    expect(await a.receiveText(1)).toEqual(['0\n']);
    bench.backend.buffer.produce(samples([0, 1], 0, 4));
    expect(await readBuffer(a, 16)).toMatchObject({ integers: [16], mask: '00000003\n' });
  });

  it('get no block from before one came, without its channels', async () => {
    const bench = new TextBench();
    const [a, b] = [bench.connect().link, bench.connect().link];
    await open(a, ADC, 4, '00000001');
    bench.backend.buffer.produce(samples([0], 50, 4));
    await open(b, ADC, 4, '00000002');
    bench.backend.buffer.produce(samples([0, 1], 0, 4));
    for (const link of [b, a]) {
      expect(await readBuffer(link, 16)).toMatchObject({ mask: '00000003\n', data: samples([0, 1], 0, 4) });
    }
  });

  it('go on where another could not be added', async () => {
    const bench = new TextBench();
    const [a, b] = [bench.connect().link, bench.connect().link];
    await open(a, ADC, 4, '00000001');
    expect(await open(b, ADC, 300_000, '00000003')).toBe('-22\n');
    bench.backend.buffer.produce(samples([0], 0, 4));
    expect((await readBuffer(a, 8)).data).toEqual(samples([0], 0, 4));
  });

  it('must want something themselves', async () => {
    const bench = new TextBench();
    const [a, b] = [bench.connect().link, bench.connect().link];
    await open(a, ADC, 4, '00000001');
    expect(await open(b, ADC, 4, '00000000')).toBe('-22\n');
  });

  it('hear of their own failures only, also where one leaves while another cannot be added', async () => {
    const bench = new TextBench();
    const [a, b, c] = [bench.connect().link, bench.connect().link, bench.connect().link];
    await open(a, ADC, 4, '00000001');
    await open(b, ADC, 4, '00000002');
    c.type(`OPEN ${ADC} 300000 00000003\r\n`);
    a.type(`CLOSE ${ADC}\r\n`);
    expect([await c.receiveText(1), await a.receiveText(1)]).toEqual([['-22\n'], ['0\n']]);
    bench.backend.buffer.produce(samples([1], 0, 4));
    expect(await readBuffer(b, 8)).toMatchObject({ data: samples([1], 0, 4) });
    expect(bench.log.errors).toEqual([]);
  });

  it('leave nothing behind when their links break off', async () => {
    const bench = new TextBench();
    const clients = [bench.connect(), bench.connect()];
    for (const { link } of clients) {
      await open(link, ADC, 4, '00000001');
      link.type(`READBUF ${ADC} 8\r\n`);
    }
    for (const { link } of clients) {
      link.end();
    }
    expect(await Promise.all(clients.map(({ ended }) => ended))).toEqual(['ESHUTDOWN', 'ESHUTDOWN']);
    expect(bench.backend.buffer.closed).toBe(true);
    expect([bench.claims.holder(ADC, 0), bench.memory.usedBytes]).toEqual([undefined, 0]);
    expect(bench.log.errors).toEqual([]);
  });
});

describe('a buffer', () => {
  it('is busy for text clients while a binary client has it, and the other way round', async () => {
    const bench = new TextBench();
    const { link } = bench.connect();
    const claim = bench.claims.claim(ADC, 0, 'binary');
    expect(await open(link, ADC, 4, '00000001')).toBe('-16\n');
    claim.release();
    expect(await open(link, ADC, 4, '00000001')).toBe('0\n');
    expect(() => bench.claims.claim(ADC, 0, 'binary')).toThrow(expect.objectContaining({ code: 'EBUSY' }));
  });

  it('is had by one client alone for cyclic use', async () => {
    const bench = new TextBench();
    const [a, b] = [bench.connect().link, bench.connect().link];
    await open(a, DAC, 4, '00000001');
    const started = performance.now();
    expect(await open(b, DAC, 4, '00000001', ' CYCLIC')).toBe('-16\n');
    expect(performance.now() - started).toBeGreaterThan(45);
    a.type(`CLOSE ${DAC}\r\n`);
    await a.receive(1);
    expect(await open(b, DAC, 4, '00000001', ' CYCLIC')).toBe('0\n');
    expect(await open(a, DAC, 4, '00000001')).toBe('-16\n');
  });

  it('opens for cyclic use when the others leave within 50 ms', async () => {
    const bench = new TextBench();
    const [a, b] = [bench.connect().link, bench.connect().link];
    await open(a, DAC, 4, '00000001');
    const opened = open(b, DAC, 4, '00000001', ' CYCLIC');
    a.type(`CLOSE ${DAC}\r\n`);
    expect(await opened).toBe('0\n');
  });

  it('has room for as many blocks as BUFFERS_COUNT says, from the next opening on', async () => {
    const bench = new TextBench();
    const { link } = bench.connect();
    link.type(`SET ${ADC} BUFFERS_COUNT 7\r\n`);
    expect(await link.receiveText(1)).toEqual(['0\n']);
    await open(link, ADC, 10, '00000001');
    expect(bench.backend.buffer.lengths).toEqual({ length: 70, watermark: 5 });
    link.type(`SET ${ADC} BUFFERS_COUNT 2\r\n`);
    expect(await link.receiveText(1)).toEqual(['-16\n']);
  });
});

describe('WRITEBUF', () => {
  it('answers when it is ready and when all is written, block by block', async () => {
    const bench = new TextBench();
    const { link } = bench.connect();
    await open(link, DAC, 4, '00000001');
    link.type(`WRITEBUF ${DAC} 20\r\n`);
    expect(await link.receiveText(1)).toEqual(['0\n']);
    link.type(samples([0], 0, 10));
    expect(await link.receiveText(1)).toEqual(['20\n']);
    expect(bench.backend.buffer.written.map(({ byteLength }) => byteLength)).toEqual([8, 8, 4]);
    expect(bench.backend.buffer.writtenBytes).toEqual(samples([0], 0, 10));
  });

  it('takes samples that come with the line', async () => {
    const bench = new TextBench();
    const { link } = bench.connect();
    await open(link, DAC, 4, '00000001');
    link.type(`WRITEBUF ${DAC} 9\r\n`, samples([0], 0, 4), 'x', 'VERSION\r\n');
    expect(await link.receiveText(3)).toEqual(['0\n', '8\n', '1.0.v1.0   \n']);
  });

  it('consumes the samples of a request that fails', async () => {
    const bench = new TextBench();
    const { link } = bench.connect();
    link.type('TIMEOUT 20\r\n');
    await link.receive(1);
    await open(link, DAC, 4, '00000001');
    bench.backend.buffer.full = true;
    link.type(`WRITEBUF ${DAC} 16\r\n`, samples([0], 0, 8), 'VERSION\r\n');
    expect(await link.receiveText(3)).toEqual(['0\n', '-110\n', '1.0.v1.0   \n']);
  });

  it('is for one client at a time', async () => {
    const bench = new TextBench();
    const [a, b] = [bench.connect().link, bench.connect().link];
    await open(a, DAC, 4, '00000001');
    expect(await open(b, DAC, 4, '00000001')).toBe('0\n');
    a.type(`WRITEBUF ${DAC} 8\r\n`);
    await a.receive(1);
    b.type(`WRITEBUF ${DAC} 8\r\n`, samples([0], 0, 4), 'VERSION\r\n');
    expect(await b.receiveText(3)).toEqual(['0\n', '-16\n', '1.0.v1.0   \n']);
    a.type(samples([0], 4, 4));
    expect(await a.receiveText(1)).toEqual(['8\n']);
    expect(bench.backend.buffer.writtenBytes).toEqual(samples([0], 4, 4));
  });

  it('is not for clients with other channels', async () => {
    const bench = new TextBench();
    const [a, b] = [bench.connect().link, bench.connect().link];
    await open(a, DAC, 4, '00000001');
    expect(await open(b, DAC, 4, '00000002')).toBe('-16\n');
    expect(bench.backend.buffers).toHaveLength(1);
  });

  it('is refused for an input, after the samples', async () => {
    const bench = new TextBench();
    const { link } = bench.connect();
    await open(link, ADC, 4, '00000001');
    link.type(`WRITEBUF ${ADC} 8\r\n`, samples([0], 0, 4), 'VERSION\r\n');
    expect(await link.receiveText(3)).toEqual(['0\n', '-1\n', '1.0.v1.0   \n']);
  });

  it('ends at once when the client goes while the device takes nothing', async () => {
    const bench = new TextBench();
    const { link, ended } = bench.connect();
    link.type('TIMEOUT 0\r\n');
    await link.receive(1);
    await open(link, DAC, 4, '00000001');
    bench.backend.buffer.full = true;
    link.type(`WRITEBUF ${DAC} 8\r\n`, samples([0], 0, 4));
    await link.receive(1);
    link.end();
    expect(await ended).toBe('ESHUTDOWN');
    expect(bench.backend.buffer.closed).toBe(true);
  });

  it.each(['CLOSE', 'the end of the link'])('is played to its end before %s cuts it off', async (how) => {
    const bench = new TextBench();
    const { link, ended } = bench.connect();
    await open(link, DAC, 4, '00000001');
    link.type(`WRITEBUF ${DAC} 8\r\n`, samples([0], 0, 4));
    await link.receive(2);
    expect(bench.backend.buffer.drains).toBe(0);
    if (how === 'CLOSE') {
      link.type(`CLOSE ${DAC}\r\n`);
      expect(await link.receiveText(1)).toEqual(['0\n']);
    } else {
      link.end();
      await ended;
    }
    expect(bench.backend.buffer).toMatchObject({ drains: 1, closed: true });
  });

  it('ends when the client goes within its samples', async () => {
    const bench = new TextBench();
    const { link, ended } = bench.connect();
    await open(link, DAC, 4, '00000001');
    link.type(`WRITEBUF ${DAC} 16\r\n`, samples([0], 0, 3));
    await link.receive(1);
    link.end();
    expect(await ended).toBe('ESHUTDOWN');
    expect(bench.backend.buffer).toMatchObject({ closed: true, written: [] });
    expect(bench.memory.usedBytes).toBe(0);
  });

  it('plays a cycle until CLOSE', async () => {
    const bench = new TextBench();
    const { link } = bench.connect();
    await open(link, DAC, 4, '00000001', ' CYCLIC');
    link.type(`WRITEBUF ${DAC} 8\r\n`, samples([0], 1, 4));
    expect(await link.receiveText(2)).toEqual(['0\n', '8\n']);
    const { buffer } = bench.backend;
    await until(() => buffer.written.length >= 3);
    link.type(`CLOSE ${DAC}\r\n`);
    expect(await link.receiveText(1)).toEqual(['0\n']);
    const count = buffer.written.length;
    const all = buffer.writtenBytes;
    expect(all.byteLength % 8).toBe(0);
    expect(Buffer.alloc(all.byteLength, samples([0], 1, 4)).equals(all)).toBe(true);
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(buffer.written.length).toBe(count);
    expect(bench.log.errors).toEqual([]);
  });

  it('refuses a cycle longer than a block', async () => {
    const bench = new TextBench();
    const { link } = bench.connect();
    await open(link, DAC, 4, '00000001', ' CYCLIC');
    link.type(`WRITEBUF ${DAC} 10\r\n`, samples([0], 0, 5), 'VERSION\r\n');
    expect(await link.receiveText(3)).toEqual(['0\n', '-12\n', '1.0.v1.0   \n']);
  });
});
