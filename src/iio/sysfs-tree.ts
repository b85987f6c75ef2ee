import { readdirSync, readFileSync, statSync } from 'node:fs';

export interface SysfsEntry {
  readonly name: string;
  readonly kind: 'file' | 'directory';
}

/**
 * What discovery needs of a file system. Paths are absolute. Nothing here throws: a device may vanish, or refuse to be
 * read, while its directory is being walked, and that must not cost the other devices.
 */
export interface SysfsTree {
  /** Regular files and directories, symbolic links followed, in no particular order; `undefined` if not a directory. */
  list(path: string): readonly SysfsEntry[] | undefined;
  /** The text of a file; `undefined` if it cannot be read. */
  read(path: string): string | undefined;
}

/** The machine's own file system. */
export const realSysfs: SysfsTree = {
  list(path) {
    const entries = attempt(() => readdirSync(path, { withFileTypes: true }));
    return entries?.flatMap(({ name }): SysfsEntry[] => {
      const stats = attempt(() => statSync(`${path}/${name}`));
      if (stats?.isFile()) return [{ name, kind: 'file' }];
      return stats?.isDirectory() ? [{ name, kind: 'directory' }] : [];
    });
  },
  read(path) {
    return attempt(() => readFileSync(path, 'utf8'));
  },
};

function attempt<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch {
    return undefined;
  }
}

/** A tree that is written down instead of mounted, for emulated contexts and tests. */
export class MemorySysfs implements SysfsTree {
  readonly #directories = new Map<string, Map<string, string | undefined>>();

  constructor(files: Iterable<readonly [path: string, content: string]> = []) {
    for (const [path, content] of files) this.set(path, content);
  }

  /**
   * `[/absolute/directory]` opens a directory; each following line `name = value` (or just `name`, for an empty file)
   * puts a file there, whose content is the value and a newline. The name may hold slashes. `#` starts a comment line.
   */
  static fromText(text: string): MemorySysfs {
    const tree = new MemorySysfs();
    let directory = '';
    for (const line of text.split('\n').map((entry) => entry.trim())) {
      if (line === '' || line.startsWith('#')) continue;
      const header = /^\[(.*)\]$/.exec(line)?.[1];
      if (header !== undefined) {
        directory = header;
        tree.#directory(directory);
        continue;
      }
      const [, name, value] = /^(.*?)(?: = (.*))?$/.exec(line) ?? [];
      tree.set(`${directory}/${name}`, value === undefined ? '' : `${value}\n`);
    }
    return tree;
  }

  set(path: string, content: string): void {
    const [parent, name] = split(path);
    this.#directory(parent).set(name, content);
  }

  list(path: string): readonly SysfsEntry[] | undefined {
    const directory = this.#directories.get(path);
    if (directory === undefined) return undefined;
    return Array.from(directory, ([name, content]): SysfsEntry => {
      return { name, kind: content === undefined ? 'directory' : 'file' };
    });
  }

  read(path: string): string | undefined {
    const [parent, name] = split(path);
    return this.#directories.get(parent)?.get(name);
  }

  #directory(path: string): Map<string, string | undefined> {
    const existing = this.#directories.get(path);
    if (existing !== undefined) return existing;
    const created = new Map<string, string | undefined>();
    this.#directories.set(path, created);
    if (path !== '') {
      const [parent, name] = split(path);
      this.#directory(parent).set(name, undefined);
    }
    return created;
  }
}

function split(path: string): [parent: string, name: string] {
  const slash = path.lastIndexOf('/');
  return [path.slice(0, slash), path.slice(slash + 1)];
}
