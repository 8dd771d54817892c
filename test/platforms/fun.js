// Lambda's Invoke API in front of npm @vercel/fun, which runs a `bootstrap` as a process for each invocation at a
// time, and stops it (SIGSTOP) between two. Unsigned. Prints `endpoint=URL`, then `ready`; ends with its input.
// usage: node fun.js MODULES DIRECTORY NAME=VALUE...
const [modules, directory, ...variables] = process.argv.slice(2)
const { createFunction } = require(modules + '/@vercel/fun')
const http = require('node:http')

async function main () {
  const fn = await createFunction({
    Code: { Directory: directory }, Handler: 'bootstrap', Runtime: 'provided', MemorySize: 512,
    Environment: { Variables: Object.fromEntries(variables.map(v => v.split(/=(.*)/s).slice(0, 2))) }
  })
  const server = http.createServer(async (req, res) => {
    const parts = []
    for await (const part of req) parts.push(part)
    if (req.headers['x-amz-invocation-type'] === 'DryRun') { res.writeHead(204); res.end(); return }
    try {
      const done = await fn.invoke({ InvocationType: 'RequestResponse', Payload: Buffer.concat(parts).toString() })
      res.writeHead(done.StatusCode, done.FunctionError ? { 'X-Amz-Function-Error': done.FunctionError } : {})
      res.end(done.Payload)
    } catch (error) {
      res.writeHead(500)
      res.end(JSON.stringify({ message: String(error) }))
    }
  })
  server.listen(0, '127.0.0.1', () => console.log(`endpoint=http://127.0.0.1:${server.address().port}\nready`))
  process.stdin.on('end', async () => { await fn.destroy(); process.exit(0) })
  process.stdin.resume()
}

main()
