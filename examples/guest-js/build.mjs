// node build.mjs APP WIT WORLD GUEST: makes the component GUEST of the script APP, for a world of the folder WIT.
import { componentize } from '@bytecodealliance/componentize-js';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [sourcePath, wit, worldName, guest] = process.argv.slice(2);
const witPath = await mkdtemp(join(tmpdir(), 'wit-'));
await cp(wit, witPath, { recursive: true });
// The WIT parser in componentize-js 0.20 trips over the import of an interface that is not stable yet.
const cli = join(witPath, 'deps/cli.wit');
await writeFile(cli, (await readFile(cli, 'utf8')).replace(/@unstable\(.*\)\n *import wasi:clocks\/timezone.*\n/g, ''));
const { component } = await componentize({ sourcePath, witPath, worldName, disableFeatures: ['fetch-event', 'http'] });
await writeFile(guest, component);
await rm(witPath, { recursive: true });
