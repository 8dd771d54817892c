// What the SDK of CloudEvents makes of a server: events sent and replies taken by it, as one line of JSON.
// usage: node cloudevents_client.js MODULES URL LINE
const [modules, url, line] = process.argv.slice(2)
const { CloudEvent, HTTP } = require(modules + '/cloudevents')

async function ask (message) {
  const answer = await fetch(url, { method: 'POST', headers: message.headers, body: message.body })
  const body = await answer.text()
  if (answer.status !== 200) return [answer.status, JSON.parse(body).error]
  const event = HTTP.toEvent({ headers: Object.fromEntries(answer.headers), body })
  return [event.validate(), event.id, event.source, event.type, event.specversion, event.data.sum]
}

async function main () {
  const told = {}
  const event = new CloudEvent({ id: 'A234', type: 'test.asked', source: '/test', data: JSON.parse(line), extra: 'ä' })
  told.binary = await ask(HTTP.binary(event))
  told.structured = await ask(HTTP.structured(event))
  const bad = new CloudEvent({ type: 'test.asked', source: '/test', data: { value: {} } })
  told.failed = await ask(HTTP.structured(bad))
  console.log(JSON.stringify(told))
}

main().catch(e => { console.error(e); process.exit(1) })
