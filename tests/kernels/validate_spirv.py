#!/usr/bin/env python3
"""Runs spirv-val over compiled kernels; prints the faults. Usage: validate_spirv.py SPIRV_VAL FILE..."""
import subprocess
import sys


def main():
    spirv_val, *files = sys.argv[1:]
    failed = [f for f in files if subprocess.run([spirv_val, '--target-env', 'vulkan1.2', f], check=False).returncode]
    for f in failed:
        print(f'FAILED {f}', file=sys.stderr)
    print(f'{len(files) - len(failed)} of {len(files)} modules are valid')
    return 1 if failed or not files else 0


sys.exit(main())
