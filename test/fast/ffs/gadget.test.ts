import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { Gadget, listUdcs, type OwnGadgetOptions, type SharedGadgetOptions } from '../../../src/ffs/gadget.js';
import { FakeConfigFs } from './fake-configfs.js';

const CONFIGFS = '/config';
const OURS = '/config/usb_gadget/test';
const THEIRS = '/config/usb_gadget/g1';

let tree: FakeConfigFs;
let udcClass: string;
let own: OwnGadgetOptions;
let shared: SharedGadgetOptions;

beforeEach(() => {
  const directory = mkdtempSync(join(tmpdir(), 'iio-bridge-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  tree = new FakeConfigFs(CONFIGFS);
  udcClass = join(directory, 'udc');
  const places = { configfs: CONFIGFS, udcClass, runDirectory: join(directory, 'run'), tree, name: 'test' };
  own = {
    ...places,
    identity: { idVendor: 0x1209, idProduct: 1, manufacturer: 'Maker', product: 'Thing', serial: '42' },
  };
  shared = { ...places, existing: THEIRS, config: 'c.1' };
});

function addUdc(name: string, gadget = ''): void {
  mkdirSync(join(udcClass, name), { recursive: true });
  writeFileSync(join(udcClass, name, 'function'), gadget === '' ? '' : `${gadget}\n`);
}

/** A gadget such as a board's start-up script makes. */
async function addTheirs(udc?: string): Promise<void> {
  await tree.make(THEIRS);
  await tree.make(`${THEIRS}/functions/rndis.usb0`);
  await tree.make(`${THEIRS}/configs/c.1`);
  await tree.link(`${THEIRS}/functions/rndis.usb0`, `${THEIRS}/configs/c.1/rndis.usb0`);
  if (udc !== undefined) {
    await tree.write(`${THEIRS}/UDC`, udc);
  }
  tree.log.length = 0;
}

describe('a gadget of our own', () => {
  it('is built in the order that the kernel wants', async () => {
    await using gadget = await Gadget.create(own);
    expect(gadget.functionName).toBe('test');
    expect(tree.log).toEqual([
      `make ${OURS}`,
      `write ${OURS}/idVendor "0x1209"`,
      `write ${OURS}/idProduct "0x0001"`,
      `write ${OURS}/bcdDevice "0x0100"`,
      `write ${OURS}/bcdUSB "0x0200"`,
      `make ${OURS}/strings/0x409`,
      `write ${OURS}/strings/0x409/manufacturer "Maker"`,
      `write ${OURS}/strings/0x409/product "Thing"`,
      `write ${OURS}/strings/0x409/serialnumber "42"`,
      `make ${OURS}/configs/c.1`,
      `make ${OURS}/configs/c.1/strings/0x409`,
      `write ${OURS}/configs/c.1/strings/0x409/configuration "IIO"`,
      `make ${OURS}/functions/ffs.test`,
      `link ${OURS}/configs/c.1/ffs.test ${OURS}/functions/ffs.test`,
      `write ${OURS}/os_desc/b_vendor_code "0x00cd"`,
      `write ${OURS}/os_desc/qw_sign "MSFT100"`,
      `write ${OURS}/os_desc/use "1"`,
      `link ${OURS}/os_desc/c.1 ${OURS}/configs/c.1`,
    ]);
  });

  it('goes off the bus and away, relations before objects, and nothing is left', async () => {
    addUdc('dummy_udc.0');
    const gadget = await Gadget.create(own);
    await gadget.bind();
    expect(await gadget.udc()).toBe('dummy_udc.0');
    tree.log.length = 0;
    await gadget.remove();
    expect(tree.log).toEqual([
      `write ${OURS}/UDC "\\n"`,
      `unlink ${OURS}/os_desc/c.1`,
      `unlink ${OURS}/configs/c.1/ffs.test`,
      `remove ${OURS}/configs/c.1/strings/0x409`,
      `remove ${OURS}/configs/c.1`,
      `remove ${OURS}/functions/ffs.test`,
      `remove ${OURS}/strings/0x409`,
      `remove ${OURS}`,
    ]);
    expect(tree.below('/config/usb_gadget')).toEqual([]);
    await gadget.remove();
  });

  it.each([
    'idProduct',
    'strings/0x409/serialnumber',
    'configs/c.1',
    'configs/c.1/ffs.test',
    'os_desc/use',
    'os_desc/c.1',
  ])('leaves nothing when the kernel refuses %s', async (place) => {
    tree.failAt(join(OURS, place), 'EIO');
    await expect(Gadget.create(own)).rejects.toMatchObject({ code: 'EIO' });
    expect(tree.below('/config/usb_gadget')).toEqual([]);
    // The name is free again too.
    await (await Gadget.create(own)).remove();
  });

  it('on a kernel without FunctionFS: NO_FUNCTIONFS with what to load, and nothing is left', async () => {
    tree.failAt(`${OURS}/functions/ffs.test`, 'ENOENT');
    await expect(Gadget.create(own)).rejects.toMatchObject({
      code: 'NO_FUNCTIONFS',
      message: expect.stringContaining('usb_f_fs'),
    });
    expect(tree.below('/config/usb_gadget')).toEqual([]);
  });

  it('on a kernel without gadgets: NO_CONFIGFS', async () => {
    await expect(Gadget.create({ ...own, configfs: '/elsewhere' })).rejects.toMatchObject({
      code: 'NO_CONFIGFS',
      message: expect.stringContaining('libcomposite'),
    });
  });

  it('replaces what a killed process left, bound or not', async () => {
    await tree.make(OURS);
    await tree.make(`${OURS}/configs/c.1`);
    await tree.make(`${OURS}/strings/0x409`);
    await tree.make(`${OURS}/functions/ffs.test`);
    await tree.link(`${OURS}/functions/ffs.test`, `${OURS}/configs/c.1/ffs.test`);
    await tree.link(`${OURS}/configs/c.1`, `${OURS}/os_desc/c.1`);
    await tree.write(`${OURS}/UDC`, 'dummy_udc.0');
    await (await Gadget.create(own)).remove();
    expect(tree.below('/config/usb_gadget')).toEqual([]);
  });

  it("does not touch another program's gadget of the same name", async () => {
    await tree.make(OURS);
    await tree.make(`${OURS}/functions/acm.usb0`);
    const before = tree.below('/config');
    await expect(Gadget.create(own)).rejects.toMatchObject({
      code: 'EBUSY',
      message: expect.stringContaining('acm.usb0'),
    });
    expect(tree.below('/config')).toEqual(before);
  });

  it('is not taken from a process that still runs', async () => {
    await using gadget = await Gadget.create(own);
    await expect(Gadget.create(own)).rejects.toMatchObject({
      code: 'EBUSY',
      message: expect.stringContaining(`process ${process.pid}`),
    });
    expect(await tree.exists(gadget.path)).toBe(true);
  });

  it('survives that the kernel has unbound it already', async () => {
    addUdc('dummy_udc.0');
    const gadget = await Gadget.create(own);
    await gadget.bind();
    tree.dropUdc(OURS);
    expect(await gadget.udc()).toBeUndefined();
    await gadget.unbind();
    await gadget.remove();
    expect(tree.below('/config/usb_gadget')).toEqual([]);
  });

  it('can be removed again when the first attempt failed', async () => {
    const gadget = await Gadget.create(own);
    tree.failAt(`${OURS}/configs/c.1`, 'EBUSY');
    await expect(gadget.remove()).rejects.toMatchObject({ code: 'EBUSY' });
    await gadget.remove();
    expect(tree.below('/config/usb_gadget')).toEqual([]);
  });
});

describe('a shared gadget', () => {
  it('is taken off the bus to join, and bound again where it was', async () => {
    addUdc('a.udc');
    addUdc('b.udc', 'g1');
    await addTheirs('b.udc');
    await using gadget = await Gadget.create(shared);
    expect(await gadget.bind()).toBe('b.udc');
    expect(tree.log).toEqual([
      `write ${THEIRS}/UDC "\\n"`,
      `unlink ${THEIRS}/configs/c.1/ffs.test`,
      `remove ${THEIRS}/functions/ffs.test`,
      `make ${THEIRS}/functions/ffs.test`,
      `link ${THEIRS}/configs/c.1/ffs.test ${THEIRS}/functions/ffs.test`,
      `write ${THEIRS}/UDC "b.udc"`,
    ]);
  });

  it('is left as it was, on the bus', async () => {
    addUdc('b.udc', 'g1');
    await addTheirs('b.udc');
    const before = tree.below('/config');
    const gadget = await Gadget.create(shared);
    await gadget.bind();
    await gadget.remove();
    expect(tree.below('/config')).toEqual(before);
    expect(await tree.read(`${THEIRS}/UDC`)).toBe('b.udc');
  });

  it('is left as it was when joining fails half way', async () => {
    await addTheirs('b.udc');
    const before = tree.below('/config');
    tree.failAt(`${THEIRS}/configs/c.1/ffs.test`, 'EINVAL');
    await expect(Gadget.create(shared)).rejects.toMatchObject({ code: 'EINVAL' });
    expect(tree.below('/config')).toEqual(before);
    expect(await tree.read(`${THEIRS}/UDC`)).toBe('b.udc');
  });

  it.each([
    ['gadget', { existing: '/config/usb_gadget/g2' }],
    ['configuration', { config: 'c.2' }],
  ])('that does not exist (%s): ENOENT, and nothing changes', async (what, change) => {
    await addTheirs();
    await expect(Gadget.create({ ...shared, ...change })).rejects.toMatchObject({
      code: 'ENOENT',
      message: expect.stringContaining(`there is no ${what}`),
    });
    expect(tree.log).toEqual([]);
  });
});

describe('the controller', () => {
  it('none: NO_UDC with what to do', async () => {
    await using gadget = await Gadget.create(own);
    await expect(gadget.bind()).rejects.toMatchObject({
      code: 'NO_UDC',
      message: expect.stringContaining('device (peripheral or OTG) mode'),
    });
  });

  it('by default the first that is free', async () => {
    addUdc('a.udc', 'g1');
    addUdc('b.udc');
    addUdc('c.udc');
    await using gadget = await Gadget.create(own);
    expect(await gadget.bind()).toBe('b.udc');
  });

  it('all taken: EBUSY, naming the gadgets', async () => {
    addUdc('a.udc', 'g1');
    await using gadget = await Gadget.create(own);
    await expect(gadget.bind()).rejects.toMatchObject({
      code: 'EBUSY',
      message: expect.stringContaining('a.udc serves g1'),
    });
  });

  it('one that this machine does not have: NO_UDC, naming those it has', async () => {
    addUdc('a.udc');
    await using gadget = await Gadget.create(own);
    await expect(gadget.bind('z.udc')).rejects.toMatchObject({
      code: 'NO_UDC',
      message: 'there is no USB device controller z.udc; this machine has a.udc',
    });
  });

  it('is listed with what it serves', async () => {
    expect(await listUdcs(udcClass)).toEqual([]);
    addUdc('b.udc');
    addUdc('a.udc', 'g1');
    expect(await listUdcs(udcClass)).toEqual([
      { name: 'a.udc', gadget: 'g1' },
      { name: 'b.udc', gadget: undefined },
    ]);
  });
});
