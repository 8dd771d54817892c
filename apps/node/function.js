// SPDX-License-Identifier: Apache-2.0
//
// The functions of the sort where a platform runs JavaScript only: each run is a line to a
// wadi-sort-fn, which speaks OpenWhisk's ActionLoop, and its reply is the line that comes back.
// One child for each run at a time; it is kept for the next, attached to the store as it is.
//
//	WADI_SORT_FN    the program; beside this file unless said otherwise
//
// Cloud Run functions (Functions Framework): sort, sortEvent. Knative func for Node: handle.
// AWS Lambda: handler.
const { spawn } = require('node:child_process')
const path = require('node:path')
const readline = require('node:readline')

const PROGRAM = process.env.WADI_SORT_FN || path.join(__dirname, 'wadi-sort-fn')

const idle = []

class Child {
  constructor () {
    this.process = spawn(PROGRAM, [], { stdio: ['pipe', 'inherit', 'inherit', 'pipe'] })
    this.waiting = null
    this.process.stdin.on('error', () => {}) // its end tells
    readline.createInterface({ input: this.process.stdio[3] }).on('line', line => this.settle(line))
    this.process.on('error', error => this.end(error.message))
    this.process.on('exit', (code, signal) => this.end(`${PROGRAM} ended: ${signal || code}`))
  }

  settle (line) {
    const { resolve } = this.waiting
    this.waiting = null
    idle.push(this)
    resolve(JSON.parse(line))
  }

  end (why) {
    if (this.waiting) this.waiting.reject(new Error(why))
    this.waiting = null
    if (idle.includes(this)) idle.splice(idle.indexOf(this), 1)
  }

  run (request) {
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject }
      this.process.stdin.write(JSON.stringify(request) + '\n')
    })
  }
}

const run = request => (idle.pop() || new Child()).run(request)

const statusOf = reply => reply.error ? (reply.is_final ? 422 : 500) : 200

const health = { ok: true }

// Functions Framework, http.
exports.sort = async (req, res) => {
  if (req.method === 'GET') return res.json(health)
  const reply = await run(req.body)
  res.status(statusOf(reply)).json(reply)
}

// Functions Framework, cloudevent: nobody hears a reply, so what failed must fail.
exports.sortEvent = async event => {
  const reply = await run(event.data)
  if (reply.error) throw new Error(reply.error)
}

// faas-js-runtime.
exports.handle = async (context, body) => {
  if (context.method === 'GET') return health
  const reply = await run(context.cloudEvent ? context.cloudEvent.data : body)
  return { statusCode: statusOf(reply), headers: { 'content-type': 'application/json' }, body: reply }
}

// AWS Lambda: the reply says itself whether it is an error.
exports.handler = event => run(event)
