/** What sort of trouble the kernel reports. */
export type KernelReportKind =
  | 'panic'
  | 'oops'
  | 'bug'
  | 'kasan'
  | 'ubsan'
  | 'lockdep'
  | 'refcount'
  | 'memory-corruption'
  | 'stall'
  | 'hung-task'
  | 'out-of-memory'
  | 'warning'
  | 'dma-api';

export interface KernelReport {
  readonly kind: KernelReportKind;
  /** The line that names the trouble, without its time stamp. */
  readonly title: string;
  /** All lines of the report, as logged. */
  readonly text: string;
}

interface Rule {
  readonly kind: KernelReportKind;
  readonly pattern: RegExp;
}

/** Titles of reports, most specific first: the first rule that matches a line names its kind. */
const RULES: readonly Rule[] = [
  { kind: 'panic', pattern: /Kernel panic - not syncing/ },
  { kind: 'kasan', pattern: /BUG: K(?:ASAN|FENCE|CSAN|MSAN): / },
  { kind: 'ubsan', pattern: /^UBSAN: / },
  { kind: 'lockdep', pattern: /possible circular locking dependency/ },
  { kind: 'lockdep', pattern: /possible (?:recursive locking|irq lock inversion dependency)/ },
  { kind: 'lockdep', pattern: /possible deadlock/ },
  { kind: 'lockdep', pattern: /inconsistent lock state/ },
  { kind: 'lockdep', pattern: /(?:HARDIRQ|SOFTIRQ|RECLAIM_FS)-safe -> \S+-unsafe lock order detected/ },
  {
    kind: 'lockdep',
    pattern: /^(?:WARNING|INFO): (?:suspicious RCU usage|nested lock was not taken|bad unlock balance)/,
  },
  { kind: 'lockdep', pattern: /^WARNING: (?:held lock freed|lock held when returning to user space|Nested lock)/ },
  { kind: 'lockdep', pattern: /^BUG: (?:held lock freed|Invalid wait context)|\[ BUG: Invalid wait context \]/ },
  { kind: 'lockdep', pattern: /^INFO: trying to register non-static key/ },
  { kind: 'lockdep', pattern: /^BUG: MAX_LOCK\w+ too low/ },
  { kind: 'bug', pattern: /BUG: sleeping function called from invalid context/ },
  { kind: 'bug', pattern: /BUG: scheduling while atomic/ },
  { kind: 'stall', pattern: /\bdetected (?:expedited )?stalls? on CPUs\/tasks|self-detected stall on CPU/ },
  {
    kind: 'stall',
    pattern:
      /BUG: (?:soft lockup|workqueue lockup)|Watchdog detected hard LOCKUP|rcu_\w+ kthread (?:starved|timer wakeup)/,
  },
  { kind: 'hung-task', pattern: /INFO: task .+ blocked for more than \d+ seconds/ },
  { kind: 'oops', pattern: /BUG: (?:unable to handle|kernel NULL pointer dereference)/ },
  { kind: 'oops', pattern: /unable to handle (?:kernel|page fault|paging request)/i },
  { kind: 'oops', pattern: /general protection fault|^Oops(?::|\b)|^Internal error: |^Kernel mode fault at addr/ },
  { kind: 'oops', pattern: /kernel BUG at / },
  { kind: 'refcount', pattern: /^refcount_t: / },
  { kind: 'memory-corruption', pattern: /^list_(?:add|del) corruption/ },
  { kind: 'memory-corruption', pattern: /^BUG \S+ \(.*\): / },
  { kind: 'memory-corruption', pattern: /BUG: Bad (?:page|rss)|Slab corruption|^slab error in |double free detected/ },
  { kind: 'out-of-memory', pattern: /Out of memory: Killed process|page allocation failure|invoked oom-killer/ },
  { kind: 'dma-api', pattern: /^DMA-API: .*(?:device driver |cacheline tracking )/ },
  { kind: 'warning', pattern: /^WARNING: / },
  { kind: 'bug', pattern: /\bBUG: / },
];

interface KnownHarmless {
  /** Must match the report's first lines: what follows a title may be about something else. */
  readonly pattern: RegExp;
  readonly reason: string;
}

/** Reports that say nothing about the code under test. Each needs a reason that a reader can check. */
export const KNOWN_HARMLESS: readonly KnownHarmless[] = [
  {
    pattern: /^(?=[\s\S]*kernel\/dma\/debug\.c)[\s\S]*overlapping mappings/,
    reason:
      'CONFIG_DMA_API_DEBUG counts the mappings of a page; a DMABUF that is attached to two devices, or twice to one, is mapped more than once by design.',
  },
  {
    pattern: /device driver syncs (?:DMA memory with different direction|device (?:read|write)-only DMA memory)/,
    reason:
      'DMA_BUF_IOCTL_SYNC syncs every attachment of a DMABUF for both directions, whatever direction each was mapped for; CONFIG_DMA_API_DEBUG compares the directions.',
  },
];

/** A time stamp, with the caller's thread or CPU if the kernel prints it: `[    0.220000][    T1] `. */
const PREFIX = /^(?:<\d+>)?\[\s*\d+\.\d+\](?:\[\s*[TC]\d+\])? ?/;
const CUT_HERE = /-+\[ cut here \]-+/;
const END_TRACE = /---\[ end (?:trace|Kernel panic)/;
const SEPARATOR = /^={20,}$/;
/** A report without an end line is cut here. */
const LONGEST_REPORT = 120;
const HEAD_LINES = 5;
/** One event of these kinds is told in several titles in a row. */
const CONTINUED: ReadonlySet<KernelReportKind> = new Set(['oops', 'stall', 'panic']);

function strip(line: string): string {
  return line.replace(PREFIX, '').trimEnd();
}

/** The kind of trouble that this line of a kernel log names, if any. */
export function classifyLine(line: string): KernelReportKind | undefined {
  const text = strip(line);
  return RULES.find(({ pattern }) => pattern.test(text))?.kind;
}

/** Why this report says nothing about the code under test, or undefined if it does. */
export function harmlessReason(text: string): string | undefined {
  const head = text.split('\n', HEAD_LINES).join('\n');
  return KNOWN_HARMLESS.find(({ pattern }) => pattern.test(head))?.reason;
}

interface OpenReport {
  kind: KernelReportKind | undefined;
  title: string;
  readonly lines: string[];
  /** Opened by "cut here": closed by "end trace", and other titles inside it are parts of it. */
  readonly framed: boolean;
}

function startsReport(kind: KernelReportKind, open: OpenReport | undefined): boolean {
  if (open === undefined) {
    return true;
  }
  if (open.framed) {
    return kind === 'panic';
  }
  return kind !== open.kind || !CONTINUED.has(kind);
}

/**
 * The reports of trouble in a kernel log, in its order, without the {@link KNOWN_HARMLESS} ones. Sees warnings, oopses,
 * panics, and what KASAN, UBSAN, lockdep, the allocator's checks, the stall and the hung-task detectors say.
 */
export function findReports(log: string): KernelReport[] {
  const reports: KernelReport[] = [];
  let open: OpenReport | undefined;

  const close = () => {
    if (open?.kind !== undefined) {
      const text = open.lines.join('\n');
      if (harmlessReason(text) === undefined) {
        reports.push({ kind: open.kind, title: open.title, text });
      }
    }
    open = undefined;
  };

  for (const line of log.split(/\r?\n/)) {
    const text = strip(line);
    const kind = classifyLine(line);
    if (CUT_HERE.test(text)) {
      close();
      open = { kind: undefined, title: '', lines: [line], framed: true };
      continue;
    }
    if (kind !== undefined && startsReport(kind, open)) {
      close();
      open = { kind, title: text, lines: [], framed: false };
    }
    if (open === undefined) {
      continue;
    }
    open.lines.push(line);
    if (kind !== undefined && open.kind === undefined) {
      open.kind = kind;
      open.title = text;
    }
    if (END_TRACE.test(text) || (!open.framed && SEPARATOR.test(text)) || open.lines.length >= LONGEST_REPORT) {
      close();
    }
  }
  close();
  return reports;
}

/** The last lines of a kernel log, for an error message. */
export function logTail(log: string, lines = 60): string {
  return log.trimEnd().split(/\r?\n/).slice(-lines).join('\n');
}
