import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { FunctionFs } from '../../../src/ffs/function-fs.js';
import { FunctionFsMount, mountsAt } from '../../../src/ffs/mount.js';

describe('mounts', () => {
  it('are read from the kernel', async () => {
    expect(await mountsAt('/proc')).toContain('proc');
    expect(await mountsAt('/proc/self')).toEqual([]);
  });

  it("somebody else's file system is not unmounted", async () => {
    await expect(FunctionFsMount.mount({ name: 'test', mountpoint: '/proc' })).rejects.toMatchObject({
      code: 'EBUSY',
      message: '/proc has a proc file system mounted: choose another mount point',
    });
    expect(await mountsAt('/proc')).toContain('proc');
  });
});

describe('FunctionFs.open', () => {
  it('without a mounted instance: NO_FUNCTIONFS', async () => {
    const mountpoint = mkdtempSync(join(tmpdir(), 'iio-bridge-'));
    onTestFinished(() => rmSync(mountpoint, { recursive: true }));
    await expect(FunctionFs.open({ mountpoint, pipes: 3 })).rejects.toMatchObject({ code: 'NO_FUNCTIONFS' });
  });

  it('refuses an impossible pipe count before it opens anything', async () => {
    await expect(FunctionFs.open({ mountpoint: '/nowhere', pipes: 0 })).rejects.toMatchObject({ code: 'EINVAL' });
  });
});
