import { describe, expect, test } from 'vitest';
import { classifyLine, findReports, KNOWN_HARMLESS, logTail } from '../../../lab/kernel-log.js';

/** Lines as a guest's console shows them. */
function log(...lines: readonly string[]): string {
  return lines.map((line, index) => `[    1.${String(index).padStart(6, '0')}] ${line}`).join('\r\n');
}

const WARNING = [
  '------------[ cut here ]------------',
  'WARNING: CPU: 0 PID: 71 at drivers/usb/gadget/function/f_fs.c:1611 ffs_epfile_ioctl+0x51/0x9d0',
  'Modules linked in: iio_sim(O) dummy_hcd_sg(O)',
  'Call Trace:',
  ' [<6002cd1b>] ? show_stack+0x130/0x15a',
  '---[ end trace 0000000000000000 ]---',
];

describe('every kind of report is found, by its own words', () => {
  test.each([
    ['panic', 'Kernel panic - not syncing: sysrq triggered crash'],
    ['oops', 'BUG: kernel NULL pointer dereference, address: 0000000000000118'],
    ['oops', 'BUG: unable to handle page fault for address: ffffc90000e4b000'],
    [
      'oops',
      'Oops: general protection fault, probably for non-canonical address 0xdffffc0000000023: 0000 [#1] SMP KASAN',
    ],
    ['oops', 'general protection fault, maybe for address 0x1: 0000 [#1]'],
    ['oops', 'Internal error: Oops: 0000000096000004 [#1] SMP'],
    ['oops', 'Unable to handle kernel NULL pointer dereference at virtual address 0000000000000118'],
    ['oops', 'kernel BUG at lib/list_debug.c:59!'],
    ['oops', 'Kernel mode fault at addr 0x118, ip 0x6036f2b4'],
    ['kasan', 'BUG: KASAN: slab-use-after-free in dma_fence_signal_timestamp_locked+0x3a/0x1c0'],
    ['kasan', 'BUG: KFENCE: out-of-bounds read in f+0x1/0x2'],
    ['ubsan', 'UBSAN: array-index-out-of-bounds in drivers/iio/industrialio-buffer.c:12:3'],
    ['lockdep', 'WARNING: possible circular locking dependency detected'],
    ['lockdep', 'WARNING: possible recursive locking detected'],
    ['lockdep', 'WARNING: inconsistent lock state'],
    ['lockdep', 'WARNING: suspicious RCU usage'],
    ['lockdep', 'WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected'],
    ['lockdep', 'WARNING: bad unlock balance detected!'],
    ['lockdep', 'WARNING: lock held when returning to user space!'],
    ['lockdep', '[ BUG: Invalid wait context ]'],
    ['lockdep', 'INFO: trying to register non-static key.'],
    ['bug', 'BUG: sleeping function called from invalid context at kernel/locking/mutex.c:585'],
    ['bug', 'BUG: scheduling while atomic: node/71/0x00000002'],
    ['bug', 'BUG: something that nobody has thought of'],
    ['stall', 'rcu: INFO: rcu_sched detected stalls on CPUs/tasks:'],
    ['stall', 'rcu: INFO: rcu_preempt self-detected stall on CPU'],
    ['stall', 'rcu: INFO: rcu_sched detected expedited stalls on CPUs/tasks: { 1-... }'],
    ['stall', 'watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [node:71]'],
    ['hung-task', 'INFO: task node:71 blocked for more than 20 seconds.'],
    ['refcount', 'refcount_t: underflow; use-after-free.'],
    ['memory-corruption', 'list_del corruption. next->prev should be ffff888003a0a0c0, but was 0000000000000000'],
    ['memory-corruption', 'BUG kmalloc-128 (Tainted: G           O      ): Poison overwritten'],
    ['memory-corruption', 'BUG: Bad page state in process node  pfn:03a0a'],
    ['out-of-memory', 'Out of memory: Killed process 71 (node) total-vm:1kB'],
    ['out-of-memory', 'node: page allocation failure: order:4, mode:0x40cc0(GFP_KERNEL|__GFP_COMP), nodemask=(null)'],
    ['dma-api', 'DMA-API: dummy_udc dummy_udc.0: device driver frees DMA memory with different size'],
    ['warning', 'WARNING: CPU: 0 PID: 71 at drivers/iio/buffer/industrialio-buffer-dma.c:263 f+0x1/0x2'],
  ] as const)('%s: %s', (kind, title) => {
    expect(classifyLine(`[   12.345678] ${title}`)).toBe(kind);
    expect(classifyLine(`<4>[   12.345678][   T71] ${title}`)).toBe(kind);
    expect(findReports(log('usb 1-1: new high-speed USB device', title, 'something else'))).toMatchObject([
      { kind, title },
    ]);
  });
});

test.each([
  'Linux version 6.12.117 (root@vm) (gcc (Debian 12.2.0) #1',
  'rcu: 	Hierarchical RCU implementation.',
  'debug: unmapping init memory',
  'Kernel command line: oops=panic panic=-1',
  'usbcore: registered new interface driver usbfs',
  'This architecture does not have kernel memory protection.',
  'iio_sim: loading out-of-tree module taints kernel.',
  'DMA-API: preallocated 65536 debug entries',
  'DMA-API: debugging enabled by kernel config',
  'kmemleak: Kernel memory leak detector initialized',
])('an ordinary line is not a report: %s', (line) => {
  expect(findReports(log(line))).toEqual([]);
});

test('a framed warning is one report with all its lines and nothing after them', () => {
  const reports = findReports(log('before', ...WARNING, 'after'));
  expect(reports).toHaveLength(1);
  expect(reports[0]?.kind).toBe('warning');
  expect(reports[0]?.text.split('\n')).toHaveLength(WARNING.length);
});

test('a refcount warning is named by what it is about and not counted twice', () => {
  const [cut = '', warning = '', ...rest] = WARNING;
  expect(findReports(log(cut, 'refcount_t: underflow; use-after-free.', warning, ...rest))).toMatchObject([
    { kind: 'refcount', title: 'refcount_t: underflow; use-after-free.' },
  ]);
});

test('an oops and the panic that it leads to are two reports', () => {
  const reports = findReports(
    log(
      'BUG: kernel NULL pointer dereference, address: 0000000000000118',
      '#PF: supervisor read access in kernel mode',
      'Oops: Oops: 0000 [#1] SMP NOPTI',
      'RIP: 0010:ffs_epfile_ioctl+0x3d5/0x9d0',
      '---[ end trace 0000000000000000 ]---',
      'Kernel panic - not syncing: Fatal exception',
      'Kernel Offset: disabled',
      '---[ end Kernel panic - not syncing: Fatal exception ]---',
    ),
  );
  expect(reports.map(({ kind }) => kind)).toEqual(['oops', 'panic']);
  expect(reports[0]?.text).toContain('ffs_epfile_ioctl');
});

test('a log that ends in the middle of a report still shows it', () => {
  expect(findReports(log(...WARNING.slice(0, 3)))).toHaveLength(1);
});

const DMA_DEBUG = [
  [
    "DMA-API: dummy_udc dummy_udc.0: cacheline tracking EEXIST, overlapping mappings aren't supported",
    'WARNING: CPU: 0 PID: 71 at kernel/dma/debug.c:597 add_dma_entry+0x2b1/0x3b0',
  ],
  [
    'DMA-API: iio_sim iio_sim.0: device driver syncs DMA memory with different direction [device address=0x1] [size=4096 bytes]',
    'WARNING: CPU: 1 PID: 71 at kernel/dma/debug.c:1104 check_sync+0x3f1/0x780',
  ],
] as const;

test.each(DMA_DEBUG)('harmless, as the DMA debugging does not know DMABUFs: %s', (message, warning) => {
  const report = ['------------[ cut here ]------------', message, warning, '---[ end trace 0000000000000000 ]---'];
  expect(findReports(log(...report))).toEqual([]);
  expect(findReports(log(...report, ...WARNING))).toHaveLength(1);
  expect(findReports(log(...WARNING, ...report))).toHaveLength(1);
});

test('what else the DMA debugging finds is not harmless', () => {
  expect(
    findReports(
      log(
        '------------[ cut here ]------------',
        'DMA-API: iio_sim iio_sim.0: device driver tries to free DMA memory it has not allocated',
        'WARNING: CPU: 1 PID: 71 at kernel/dma/debug.c:980 check_unmap+0x3f1/0x780',
      ),
    ),
  ).toMatchObject([{ kind: 'dma-api' }]);
});

test('what follows a report does not make it harmless', () => {
  const reports = findReports(log('BUG: KASAN: slab-use-after-free in f+0x1/0x2', '', '', '', '', '', ...DMA_DEBUG[0]));
  expect(reports[0]).toMatchObject({ kind: 'kasan' });
});

test('every harmless report has a reason', () => {
  for (const { reason } of KNOWN_HARMLESS) {
    expect(reason.length).toBeGreaterThan(40);
  }
});

test('the tail of a log is its last lines', () => {
  expect(logTail('a\r\nb\nc\n\n', 2)).toBe('b\nc');
});
