// node check.mjs [--shots DIR] PAGE.html…
//
// Holds pages against what a report owes: valid HTML (html-validate), accessible on a phone in the dark and on
// a desktop in the light (axe in a headless Chromium, named by CHROMIUM), no wider than the screen, nothing
// that the page's own policy has to forbid, and not one request but that for the page itself. The network is
// shut for the browser besides, and the server counts what reaches it.
//
// Prints one JSON object: for each page the list of what is wrong. With --shots the screens are kept as PNG.
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { basename, join } from 'node:path'

import axe from 'axe-core'
import { HtmlValidate } from 'html-validate'
import puppeteer from 'puppeteer-core'

const PHONE = { name: 'phone', width: 390, height: 844 }
const DESKTOP = { name: 'desktop', width: 1280, height: 900 }
// Colours depend on the scheme and layout on the width: two looks see all of both.
const LOOKS = [
  [PHONE, 'dark'],
  [DESKTOP, 'light'],
]
const SHOTS = [...LOOKS, [PHONE, 'light'], [DESKTOP, 'dark']]

const args = process.argv.slice(2)
const shots = args[0] === '--shots' ? args.splice(0, 2)[1] : null

const validator = new HtmlValidate({
  extends: ['html-validate:standard'],
  rules: {
    // It is one line but for the style; nobody edits it.
    'long-title': 'off',
    'no-trailing-whitespace': 'off',
  },
})

async function validate(html) {
  const report = await validator.validateString(html)
  return report.results.flatMap((result) =>
    result.messages.map((m) => `html: ${m.ruleId}: ${m.message} (${m.line}:${m.column})`),
  )
}

// Serves one page, and keeps the path of every request.
async function serve(html) {
  const asked = []
  const server = createServer((request, response) => {
    asked.push(request.url)
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(html)
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { asked, server, url: `http://127.0.0.1:${server.address().port}/page.html` }
}

async function check(browser, file, html) {
  const { asked, server, url } = await serve(html)
  const page = await browser.newPage()
  const wrong = []
  try {
    await page.setRequestInterception(true)
    page.on('request', (request) => {
      const own = request.url() === url || request.url().startsWith('data:')
      if (!own) wrong.push(`a request for ${request.url()}`)
      own ? request.continue() : request.abort()
    })
    // What the policy forbids is told on the console.
    page.on('console', (message) => wrong.push(`on the console: ${message.text()}`))
    page.on('pageerror', (error) => wrong.push(`a script failed: ${error.message}`))
    page.on('dialog', (dialog) => {
      wrong.push(`a dialog: ${dialog.message()}`)
      return dialog.dismiss()
    })
    await page.goto(url, { waitUntil: 'networkidle0' })
    const scripts = await page.evaluate(() => document.scripts.length)
    if (scripts > 0) wrong.push(`${scripts} scripts`)
    for (const [screen, scheme] of shots ? SHOTS : []) {
      await turn(page, screen, scheme)
      const name = `${basename(file, '.html')}-${screen.name}-${scheme}.png`
      await page.screenshot({ path: join(shots, name), fullPage: true })
    }
    await page.evaluate(() => document.querySelectorAll('details').forEach((d) => (d.open = true)))
    await page.evaluate(axe.source)
    for (const [screen, scheme] of LOOKS) {
      await turn(page, screen, scheme)
      const found = await look(page)
      wrong.push(...found.map((what) => `${screen.name}, ${scheme}: ${what}`))
    }
  } finally {
    await page.close()
    server.close()
  }
  if (asked.length !== 1) wrong.push(`the server was asked for ${asked}`)
  return wrong
}

async function turn(page, { width, height }, scheme) {
  await page.setViewport({ width, height, deviceScaleFactor: 1 })
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }])
}

async function look(page) {
  const wrong = []
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
  if (wide > 0) wrong.push(`${wide} pixels wider than the screen`)
  const found = await page.evaluate(() => axe.run(document, { resultTypes: ['violations'] }))
  for (const violation of found.violations) {
    for (const node of violation.nodes) {
      wrong.push(`axe: ${violation.id} (${violation.impact}): ${node.target} ${node.failureSummary}`)
    }
  }
  if (found.passes.length < 20) wrong.push(`axe: only ${found.passes.length} rules had anything to check`)
  return wrong
}

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM,
  args: [
    '--no-sandbox',
    '--disable-dev-shm-usage',
    // No name resolves and no proxy answers, but for the server of the page.
    '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
    '--disable-background-networking',
    '--disable-component-update',
    '--no-first-run',
  ],
})
const report = {}
try {
  for (const file of args) {
    const html = await readFile(file, 'utf8')
    report[file] = [...(await validate(html)), ...(await check(browser, file, html))]
  }
} finally {
  await browser.close()
}
console.log(JSON.stringify(report, null, 1))
