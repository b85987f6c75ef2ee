import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { readRegister, withRegisterFile, writeRegister } from '../../../src/iio/registers.js';

/** A file that keeps what lies behind a written value, so that a read answers with both. */
async function registerFile(content: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'registers-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const path = join(folder, 'direct_reg_access');
  await writeFile(path, content);
  return path;
}

describe('a register', () => {
  it('is read by writing its address', async () => {
    const path = await registerFile('?????5678\n');
    expect(await readRegister(path, 0x1234)).toBe(0x1234_678);
  });

  it('is written with its address', async () => {
    const path = await registerFile('');
    await writeRegister(path, 0x8000_0088, 0xdead_beef);
    expect(await readFile(path, 'utf8')).toBe('0x80000088 0xdeadbeef');
  });

  it.each(['????', '?????????????', '??? garbage'])('is refused for an answer such as "%s"', async (content) => {
    const path = await registerFile(`${content}zz\n`);
    await expect(readRegister(path, 1)).rejects.toMatchObject({ code: 'EIO' });
  });

  it('is used by one at a time, also after a failure', async () => {
    const events: string[] = [];
    const use = (name: string, fails = false) =>
      withRegisterFile('/a', async () => {
        events.push(`${name} begins`);
        await new Promise((resolve) => setImmediate(resolve));
        events.push(`${name} ends`);
        if (fails) {
          throw new Error(name);
        }
      });
    const results = await Promise.allSettled([use('one', true), use('two'), use('three')]);
    expect(results.map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'fulfilled']);
    expect(events).toEqual(['one begins', 'one ends', 'two begins', 'two ends', 'three begins', 'three ends']);
  });
});
