import { isNative } from '../doors/ssh2.ts'
import { gauge, type MetricFamily } from '../observe/metric-family.ts'
import { VERSION } from '../observe/version.ts'

let native: boolean | undefined

/** What runs here. Whether ssh2 has its compiled cipher is found out once: it loads a part of it. */
export function buildFamilies(): readonly MetricFamily[] {
  native ??= isNativeHere()
  const { node, openssl } = process.versions
  const labels = { version: VERSION, node, openssl, ssh_native_crypto: String(native) }
  return [
    gauge('nbdgate_build_info', 'What runs here.', [[1, labels]], 'first'),
    gauge('nbdgate_ssh_native_crypto', 'Whether ssh2 has its compiled cipher: 0 is slow.', [[Number(native)]], 'min'),
  ]
}

function isNativeHere(): boolean {
  try {
    return isNative()
  } catch {
    return false
  }
}
