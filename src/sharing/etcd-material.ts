import type { EtcdConfig } from '../config/config.ts'
import { MaterialError } from '../pki/errors.ts'
import { type ClientMaterial, loadClientMaterial } from '../pki/material.ts'
import { readText, warnAboutMode } from '../pki/read-text.ts'

/** What etcd is shown: certificates, and a name with its password. */
export interface EtcdMaterial extends ClientMaterial {
  readonly login?: { readonly user: string; readonly password: string }
}

/** Loads what the configuration names. Throws MaterialError for the first thing that is wrong. */
export function loadEtcdMaterial({ ca, cert, key, login }: EtcdConfig): EtcdMaterial {
  const material = loadClientMaterial({ ca, cert, key })
  if (login === undefined) return material
  const warnings = [...material.warnings]
  const password = readText(login.passwordFile).split(/\r?\n/)[0] ?? ''
  if (password === '') throw new MaterialError('INCOMPLETE', login.passwordFile, 'its first line has no password')
  warnAboutMode(login.passwordFile, 'password', warnings)
  return { ...material, login: { user: login.user, password }, warnings }
}
