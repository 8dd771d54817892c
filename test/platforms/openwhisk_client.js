// What OpenWhisk's own client makes of a platform: each thing it can ask for here, as one line of JSON.
// usage: node openwhisk_client.js MODULES APIHOST AUTH ZIP OUTPUT
const [modules, apihost, api_key, zip, output] = process.argv.slice(2)
const openwhisk = require(modules + '/openwhisk')
const fs = require('fs')
const ow = openwhisk({apihost, api_key})
const told = {}

async function refusal (promise) {
  try { await promise } catch (e) { return [e.statusCode, e.error && e.error.error] }
  return null
}

async function main () {
  const name = 'judged', params = {op: 'generate', output, count: 10, first: '0', function_memory: 33554432}
  const made = await ow.actions.update({name, action: fs.readFileSync(zip), kind: 'blackbox',
    exec: {kind: 'blackbox', image: 'openwhisk/actionloop-base', binary: true}, limits: {memory: 128}, annotations: {a: 'b'}})
  told.made = [made.name, made.namespace, made.version, made.limits.memory, made.exec.kind, made.exec.code]
  told.listed = (await ow.actions.list()).map(a => a.name)
  told.got = (await ow.actions.get({name})).exec.binary
  told.again = await refusal(ow.actions.create({name, action: 'x'}))
  told.result = (await ow.actions.invoke({name, params, blocking: true, result: true})).count
  const record = await ow.actions.invoke({name, params, blocking: true})
  told.record = [record.response.status, record.response.result.run, record.annotations.some(a => a.key === 'initTime')]
  const {activationId} = await ow.actions.invoke({name, params})
  for (;;) {
    const missing = await refusal(ow.activations.get({name: activationId}))
    if (!missing) break
    if (missing[0] !== 404) throw new Error(missing)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  told.later = [(await ow.activations.get({name: activationId})).response.success,
    (await ow.activations.result({name: activationId})).result.count,
    Array.isArray((await ow.activations.logs({name: activationId})).logs)]
  told.activations = (await ow.activations.list({limit: 2})).length
  told.failed = await refusal(ow.actions.invoke({name, params: {op: 'fly', function_memory: 33554432}, blocking: true}))
  told.large = (await refusal(ow.actions.invoke({name, params: {x: 'x'.repeat(1 << 20)}, blocking: true})))[0]
  told.deleted = (await ow.actions.delete({name})).name
  told.gone = await refusal(ow.actions.invoke({name, params}))
  told.stranger = (await refusal(openwhisk({apihost, api_key: 'a:b'}).actions.list()))[0]
  console.log(JSON.stringify(told))
}

main().catch(e => { console.error(e); process.exit(1) })
