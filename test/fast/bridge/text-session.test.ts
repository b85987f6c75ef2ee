import { decompress } from 'fzstd';
import { describe, expect, it } from 'vitest';
import { decodeAttributeList, encodeAttributeList } from '../../../src/bridge/text/attribute-list.js';
import { DESCRIPTION, TextBench } from './text-fakes.js';

const latin1 = new TextDecoder('latin1');

/** What a probe gets for what it sends: the whole answer, told apart from silence by a VERSION that follows. */
async function probe(bench: TextBench, ...sent: (string | Uint8Array)[]): Promise<string> {
  const { link, ended } = bench.connect();
  link.type(...sent, '\r\nVERSION\r\nEXIT\r\n');
  await ended;
  const answer = link.transfers.map((transfer) => latin1.decode(transfer)).join('');
  expect(answer.endsWith(VERSION)).toBe(true);
  return answer.slice(0, -VERSION.length);
}

const VERSION = '1.0.v1.0   \n';

describe('a text session answers', () => {
  it.each<[sent: string, answer: string]>([
    ['VERSION\r\n', VERSION],
    ['FOO\r\n', '-22\n'],
    ['Version\r\n', '-22\n'],
    ['\r\n', ''],
    ['\n\n  \r\n', ''],
    ['read iio:device0 INPUT voltage0 raw\r\n', '4\n-17\0\n'],
    ['READ iio:device0 INPUT i raw\r\n', '4\n-17\0\n'],
    ['READ adc sampling_frequency\n', '7\n961538\0\n'],
    ['READ rx-adc waiting&debug\n', '4\nodd\0\n'],
    ['READ iio:device0 DEBUG direct_reg_access\r\n', '7\n0x1234\0\n'],
    ['READ iio:device0 BUFFER watermark\r\n', '4\n128\0\n'],
    ['READ nosuch raw\r\n', '-19\n'],
    ['READ iio:device0 nosuch\r\n', '-2\n'],
    ['READ iio:device0 INPUT nosuch raw\r\n', '-6\n'],
    ['READ iio:device0 OUTPUT voltage0 raw\r\n', '-6\n'],
    ['READ iio:device0 INPUT voltage1 scale\r\n', '-13\n'],
    ['READ iio:device2 \r\n', '12\n\0\0\0\x07961538\0\0\n'],
    ['READ iio:device0 INPUT voltage1\r\n', '12\n\0\0\0\x025\0\0\0\xff\xff\xff\xf3\n'],
    ['READ iio:device0 BUFFER\r\n', '16\n\0\0\0\x027\0\0\0\0\0\0\x04128\0\n'],
    ['READ iio:device1 \r\n', '0\n\n'],
    ['READ iio:device2 DEBUG\r\n', '0\n\n'],
    ['WRITE iio:device0 nosuch 2\r\n1\0', '-2\n'],
    ['WRITE nosuch attr 9\r\nVERSION\r\n', '-19\n'],
    ['WRITE iio:device0 INPUT nosuch raw 9\r\nVERSION\r\n', '-6\n'],
    ['WRITE iio:device0 INPUT voltage0 raw 3\r\n42\0', '3\n'],
    ['WRITE iio:device0 raw many\r\n', '-22\n'],
    ['TIMEOUT 1000\r\n', '0\n'],
    ['TIMEOUT 0\r\n', '0\n'],
    ['TIMEOUT -1\r\n', '0\n'],
    ['TIMEOUT -2\r\n', '-22\n'],
    ['TIMEOUT 99999999999\r\n', '-22\n'],
    ['SET iio:device0 BUFFERS_COUNT 4\r\n', '0\n'],
    ['SET iio:device0 BUFFERS_COUNT 0\r\n', '-22\n'],
    ['SET iio:device0 BUFFERS_COUNT -3\r\n', '-22\n'],
    ['SET iio:device0 BUFFERS_COUNT 2147483647\r\n', '-22\n'],
    ['SET nosuch BUFFERS_COUNT 4\r\n', '-19\n'],
    ['OPEN nosuch 64 00000001\r\n', '-19\n'],
    ['OPEN iio:device0 64 1\r\n', '-22\n'],
    ['OPEN iio:device0 64 0000000000000001\r\n', '-22\n'],
    ['OPEN iio:device0 64 0000000g\r\n', '-22\n'],
    ['OPEN iio:device0 64 00000000\r\n', '-22\n'],
    ['OPEN iio:device0 0 00000001\r\n', '-22\n'],
    ['OPEN iio:device0 99999999 00000001\r\n', '-22\n'],
    ['OPEN iio:device2 64 \r\n', '-22\n'],
    ['CLOSE iio:device0\r\n', '-6\n'],
    ['CLOSE nosuch\r\n', '-19\n'],
    ['READBUF iio:device0 64\r\n', '-9\n'],
    ['READBUF nosuch 64\r\n', '-19\n'],
    ['WRITEBUF iio:device1 64\r\n', '-9\n'],
    ['GETTRIG iio:device0\r\n', '0\n'],
    ['GETTRIG iio:device2\r\n', '-2\n'],
    ['GETTRIG nosuch\r\n', '-19\n'],
    ['SETTRIG iio:device0 nosuch\r\n', '-2\n'],
    ['SETTRIG iio:device0 iio:device1\r\n', '-22\n'],
    ['SETTRIG iio:device2 trigger0\r\n', '-2\n'],
    ['SETTRIG iio:device0 sysfstrig1\r\nGETTRIG iio:device0\r\n', '0\n10\nsysfstrig1\n'],
    ['SETTRIG iio:device0 trigger0\r\nSETTRIG iio:device0\r\nGETTRIG iio:device0\r\n', '0\n0\n0\n'],
    ['OPEN iio:device0 4 00000001\r\nOPEN iio:device0 4 00000001\r\n', '0\n-16\n'],
    ['OPEN iio:device0 4 00000001\r\nCLOSE adc\r\nCLOSE adc\r\n', '0\n0\n-6\n'],
    ['OPEN iio:device0 4 00000001\r\nREADBUF adc 1\r\nREADBUF adc 0\r\n', '0\n0\n0\n'],
    ['OPEN iio:device1 4 00000001\r\nREADBUF dac 8\r\n', '0\n-1\n'],
  ])('%j with %j', async (sent, answer) => {
    const bench = new TextBench();
    expect(await probe(bench, sent)).toBe(answer);
    expect(bench.log.errors).toEqual([]);
    expect(bench.memory.usedBytes).toBe(0);
  });

  it('what cannot be an id of the driver (EIO) where an error has no errno', async () => {
    const bench = new TextBench();
    bench.backend.openFailure = 'NO_BUFFER_HERE';
    expect(await probe(bench, 'OPEN adc 4 00000001\r\n')).toBe('-5\n');
  });
});

describe('a text session', () => {
  it('sends a value and its newline in one transfer, a document in two', async () => {
    const bench = new TextBench();
    const { link, ended } = bench.connect();
    link.type('READ adc INPUT voltage0 raw\r\nPRINT\r\nGETTRIG adc\r\nHELP\r\nQUIT\r\n');
    expect(await ended).toBe('exit');

    const [valueLength, value, length, document, newline, trigger, help, ...rest] = link.transfers.map((transfer) =>
      latin1.decode(transfer),
    );
    expect([valueLength, value]).toEqual(['4\n', '-17\0\n']);
    expect(document).toBe(latin1.decode(bench.context.xml));
    expect([length, newline]).toEqual([`${bench.context.xml.byteLength}\n`, '\n']);
    expect(trigger).toBe('0\n');
    expect(help).toContain('READBUF');
    expect(rest).toEqual([]);
  });

  it('compresses the document into one zstd frame that says how large it is', async () => {
    const { link } = new TextBench().connect();
    link.type('ZPRINT\r\n');
    const [length, frame = new Uint8Array(0), newline] = await link.receive(3);
    expect(Number(latin1.decode(length))).toBe(frame.byteLength);
    expect([...frame.subarray(0, 4)]).toEqual([0x28, 0xb5, 0x2f, 0xfd]);
    // RFC 8878: the descriptor's upper 2 bits, or its single-segment bit, announce a content size.
    const descriptor = frame[4] ?? 0;
    expect(descriptor & 0b1110_0000).not.toBe(0);
    expect(latin1.decode(decompress(frame))).toBe(latin1.decode(new TextBench().context.xml));
    expect(latin1.decode(newline)).toBe('\n');
  });

  it('hands over to the binary protocol after its 0', async () => {
    const { link, ended } = new TextBench().connect();
    link.type('BINARY\r\n', Uint8Array.of(0, 0, 2, 0, 0, 0, 0, 0));
    expect(await ended).toBe('binary');
    expect(link.transfers.map((transfer) => latin1.decode(transfer))).toEqual(['0\n']);
    expect([...(await link.read(8))]).toEqual([0, 0, 2, 0, 0, 0, 0, 0]);
  });

  it('waits until its last answer has left before it ends', async () => {
    const { link, ended } = new TextBench().connect();
    link.stalled = true;
    link.type('VERSION\r\nEXIT\r\n');
    await link.receive(1);
    let hasEnded = false;
    const end = ended.then(() => {
      hasEnded = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(hasEnded).toBe(false);
    link.readOn();
    await end;
  });

  it.each([64, 512, 1024])('takes a line of exactly %i bytes', async (bytes) => {
    const bench = new TextBench();
    const line = `READ iio:device2 rate${' '.repeat(bytes - 23)}\r\n`;
    expect(line).toHaveLength(bytes);
    expect(await probe(bench, line)).toBe('7\n961538\0\n');
  });

  it.each([8191, 8192, 8193, 65536])('answers a line of %i bytes of garbage once', async (bytes) => {
    expect(await probe(new TextBench(), `${'x'.repeat(bytes - 1)}\n`)).toBe('-22\n');
  });

  it('answers binary garbage line by line and goes on', async () => {
    expect(await probe(new TextBench(), Uint8Array.of(0, 255, 10, 1, 2, 3, 10))).toBe('-22\n-22\n');
  });

  it('refuses a value above the limit and consumes it', async () => {
    const bench = new TextBench();
    expect(await probe(bench, 'WRITE adc sampling_frequency 65537\r\n', 'VERSION\n'.repeat(8193).slice(0, 65537))).toBe(
      '-27\n',
    );
    expect(bench.backend.written).toEqual([]);
  });

  it('gives the link up where a value is too long to skip', async () => {
    const { link, ended } = new TextBench().connect();
    link.type('WRITE adc sampling_frequency 99999999999999999999\r\n');
    expect(await ended).toBe('EPROTO');
    expect(link.transfers).toEqual([]);
  });

  it('writes a value with its NUL, also where it looks like a command', async () => {
    const bench = new TextBench();
    await probe(bench, 'WRITE adc sampling_frequency 9\r\nVERSION\r\n', 'WRITE adc INPUT voltage0 scale 2\r\n1\0');
    expect(bench.backend.written).toEqual([
      ['device 0 - 0', 'VERSION\r\n'],
      ['channel 0 0 1', '1\0'],
    ]);
  });

  it('ends without an answer when the link breaks off within a payload', async () => {
    const bench = new TextBench();
    const { link, ended } = bench.connect();
    link.type('WRITE adc sampling_frequency 9\r\n1234');
    link.end();
    expect(await ended).toBe('ESHUTDOWN');
    expect(link.transfers).toEqual([]);
    expect(bench.backend.written).toEqual([]);
  });

  it('writes all attributes of a list but those of length 0 or below', async () => {
    const bench = new TextBench();
    const list = Uint8Array.of(...[255, 255, 255, 254], ...[0, 0, 0, 2, 0x39, 0, 0, 0]);
    expect(await probe(bench, 'WRITE adc INPUT voltage0 12\r\n', list)).toBe('12\n');
    expect(bench.backend.written).toEqual([['channel 0 0 1', '9\0']]);
  });

  it('writes nothing of a list that does not fit the attributes', async () => {
    const bench = new TextBench();
    expect(await probe(bench, 'WRITE adc INPUT voltage0 8\r\n', Uint8Array.of(0, 0, 0, 2, 0x39, 0, 0, 0))).toBe(
      '-22\n',
    );
    expect(bench.backend.written).toEqual([]);
  });

  it('describes itself by the version in its document', async () => {
    expect(DESCRIPTION.version).toEqual({ major: 1, minor: 0, git: 'v1.0' });
    expect(await probe(new TextBench(), '')).toBe('');
  });
});

describe('lists of attributes', () => {
  const results = [Uint8Array.of(1, 2, 3, 0), -22, Uint8Array.of(7, 0), new Uint8Array(0)];

  it('are what clients send back', () => {
    const list = encodeAttributeList(results, 65535);
    expect([...list]).toEqual([
      ...[0, 0, 0, 4, 1, 2, 3, 0],
      ...[255, 255, 255, 234],
      ...[0, 0, 0, 2, 7, 0, 0, 0],
      ...[0, 0, 0, 0],
    ]);
    expect(decodeAttributeList(list, 4)).toEqual([results[0], undefined, results[2], undefined]);
  });

  it('say EFBIG for what does not fit, and end where that does not fit either', () => {
    const three = [Uint8Array.of(1, 0), new Uint8Array(100), Uint8Array.of(2, 0)];
    expect([...encodeAttributeList(three, 20)]).toEqual([
      ...[0, 0, 0, 2, 1, 0, 0, 0],
      ...[255, 255, 255, 229],
      ...[0, 0, 0, 2, 2, 0, 0, 0],
    ]);
    expect(encodeAttributeList(three, 14).byteLength).toBe(12);
  });

  it('may lack the padding of the last value', () => {
    expect(decodeAttributeList(Uint8Array.of(0, 0, 0, 2, 7, 0), 1)).toEqual([Uint8Array.of(7, 0)]);
  });

  it.each([
    ['a value is cut off', [0, 0, 0, 9, 1, 2], 1],
    ['one is missing', [0, 0, 0, 0], 2],
    ['there is one too many', [0, 0, 0, 0, 0, 0, 0, 0], 1],
    ['a length is cut off', [0, 0, 0, 0, 0, 0], 2],
  ])('are refused where %s', (_why, bytes, count) => {
    expect(() => decodeAttributeList(Uint8Array.from(bytes), count)).toThrow(
      expect.objectContaining({ code: 'EINVAL' }),
    );
  });
});
