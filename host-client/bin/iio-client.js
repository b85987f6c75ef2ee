#!/usr/bin/env node
// npm links only programs that are there when it installs, and that is before anything is built.
import '../dist/cli/main.js';
