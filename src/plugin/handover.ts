// handover plugin @@VERSION@@: written by "handover plugin install", removed by "handover plugin uninstall"; changes are lost.
//
// Gives opencode the tool remote_login, and tools for jobs on hosts: remote_run, remote_jobs, remote_status,
// remote_collect, remote_say, remote_kill and remote_logs. All work is done by the program below; this file starts it, shows how far
// it is, and answers. It asks the program for what a model may see: names, kinds and counts, never an address.

import { spawn } from "node:child_process"
import { basename } from "node:path"

const VERSION = "@@VERSION@@"
const PROGRAM = "@@PROGRAM@@"

const TOOL = "remote_login"
const MODES = ["one-way", "round-trip"]
/** The longest line that is taken from the program, in characters. */
const LINE_LIMIT = 32 * 1024 * 1024
/** How long the program may take to list the hosts, in milliseconds. */
const LIST_DEADLINE = 10_000
/** How long an aborted call waits for the program to say that it has let go, in milliseconds. */
const DETACH_DEADLINE = 3_000
/** How long opencode may take to note the review's message, in milliseconds. */
const REVIEW_DEADLINE = 10_000
/** The least time between two reports of progress, and the time after which one is due, in milliseconds. */
const PROGRESS_INTERVAL = 1_000
const PROGRESS_HEARTBEAT = 5_000

const STEPS: Record<string, string> = {
  export: "exporting the session",
  connect: "connecting",
  probe: "looking at the host",
  send: "sending",
  launch: "launching",
  remote_import: "importing there",
  run: "the agent runs",
  remote_export: "exporting there",
  fetch: "fetching the result",
  import: "importing the result",
  cleanup: "cleaning up",
}

type Json = Record<string, any>
/** What `handover hosts --for-model` answers. */
type Listing = { version?: string; hosts?: string[]; unused?: string[]; error?: Json }
type Line = (line: Json) => void

function start(parameters: string[], directory: string) {
  const env = { ...process.env }
  // The opencode that runs this is the one whose session it is; another one may come first in the search path.
  if (!env.HANDOVER_OPENCODE && /^opencode(\.exe)?$/.test(basename(process.execPath))) {
    env.HANDOVER_OPENCODE = process.execPath
  }
  return spawn(PROGRAM, parameters, {
    cwd: directory,
    env,
    stdio: ["pipe", "pipe", "ignore"],
    // Its own group: a Ctrl-C or a hang-up that ends opencode reaches it as the end of its input, and it detaches.
    detached: process.platform !== "win32",
    windowsHide: true,
  })
}

/** Runs the program to its end; `line` gets each JSON line as it comes. Answers its exit code, or why it did not start. */
function finish(child: ReturnType<typeof start>, line: Line): Promise<number | Error> {
  return new Promise((resolve) => {
    let rest = ""
    const take = (text: string) => {
      try {
        line(JSON.parse(text))
      } catch {
        // Not one of the program's lines.
      }
    }
    child.stdout!.setEncoding("utf8")
    child.stdout!.on("data", (chunk: string) => {
      rest += chunk
      const lines = rest.split("\n")
      rest = lines.pop() ?? ""
      if (rest.length > LINE_LIMIT) rest = ""
      for (const text of lines) if (text) take(text)
    })
    child.stdin!.on("error", () => {})
    child.on("error", (error) => resolve(error))
    child.on("close", (code) => {
      if (rest) take(rest)
      resolve(code ?? -1)
    })
  })
}

async function list(directory: string): Promise<Listing> {
  let listing: Listing = { error: { message: "the hosts cannot be listed" } }
  const child = start(["hosts", "--for-model"], directory)
  const timer = setTimeout(() => child.kill(), LIST_DEADLINE)
  child.stdin!.end()
  const ended = await finish(child, (line) => (listing = line))
  clearTimeout(timer)
  if (ended instanceof Error) {
    listing = { error: { message: "the program handover is not where it was; 'handover plugin install' mends that" } }
  }
  return listing
}

function names(listing: Listing): string {
  if (listing.error) return `The hosts are not known: ${listing.error.message}.`
  if (!listing.hosts?.length) return "No host is configured; call this with help: true to learn how."
  return `Hosts: ${listing.hosts.join(", ")}.`
}

function description(listing: Listing): string {
  return [
    "Moves this session to another machine, where the agent goes on with the task.",
    'mode "one-way" (the default): it goes on there and this conversation ends here.',
    'mode "round-trip": it comes back here when the task is done there, with everything that was said and done; this',
    "call then answers with the last words from there. That may take hours.",
    "Use it when the user asks for work on one of these hosts, and call it alone, once.",
    names(listing),
  ].join(" ")
}

function help(listing: Listing): string {
  const lines = [
    names(listing),
    "A host is defined by the user in hosts.toml in handover's configuration directory (~/.config/handover on Linux):",
    '  [hosts.NAME]',
    '  host = "user@address"      # and, as needed: port, identity_file, directory, agent, model, opencode, state_dir',
    "hosts.json and hosts.jsonc in opencode's own configuration directory are read too, after it.",
    "A change counts at once. For the user, in a terminal: 'handover hosts' shows what is configured and where,",
    "'handover trust NAME' accepts a host's key, 'handover check NAME' examines a host, 'handover jobs' lists what",
    "was sent, and 'handover collect JOB' brings a session back.",
    "Arguments: host (a name from the list); mode (one-way or round-trip); directory (the work directory on the host,",
    "'~' is the home there; without it the configured one, else the home); message (what the agent there is told",
    "besides finishing the task).",
  ]
  if (listing.unused?.length) {
    lines.push(
      `This project has a hosts file of its own (${listing.unused.join(", ")}). It is not used: a project must not be ` +
        "able to send a session somewhere. The user can copy what is wanted from it into hosts.toml.",
    )
  }
  return lines.join("\n")
}

function duration(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000)
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60]
  return h ? `${h} h ${m} min` : m ? `${m} min ${s} s` : `${s} s`
}

const counted = (count: number, word: string) => `${count} ${word}${count === 1 ? "" : "s"}`

/** Each line marked, so that nothing in a remote text can pass for something that was said here. */
const quoted = (text: string) => text.trim().split("\n").map((line) => `> ${line}`).join("\n")

function figures(result: Json): string {
  return [
    counted(result.new_messages ?? 0, "new message"),
    counted(result.tool_calls ?? 0, "tool call"),
    `${result.tokens?.input ?? 0} tokens in`,
    `${result.tokens?.output ?? 0} out`,
    `$${(result.cost ?? 0).toFixed(4)}`,
    duration(result.duration_ms ?? 0),
  ].join(", ")
}

/**
 * opencode 1.18 answers `metadata` with an effect that somebody has to run. The library for it is beside the plugin
 * when opencode could install its own packages there; without it everything works but the progress is not shown.
 */
let effects: { runPromise(effect: unknown): Promise<unknown> } | undefined

/** How far a handoff is, for the person who watches. */
class Progress {
  private step = ""
  private last = ""
  private cost = 0
  private link = ""
  private job: string | undefined
  private readonly began = Date.now()
  private told = 0
  private readonly timer: ReturnType<typeof setInterval>

  constructor(
    private readonly host: string,
    private readonly context: Json,
  ) {
    this.timer = setInterval(() => this.tell(), PROGRESS_HEARTBEAT)
  }

  take(event: Json) {
    const agent = event.agent ?? {}
    let due = false
    if (event.event === "job") this.job = event.job
    else if (event.event === "step") {
      this.step = STEPS[event.step] ?? String(event.step)
      due = true
    } else if (event.event === "unreachable") this.link = "the link is down, the job goes on"
    else if (event.event === "reconnected") this.link = ""
    else if (agent.event === "text") this.last = String(agent.text).trim().split("\n").pop() ?? ""
    else if (agent.event === "tool_use") this.last = `tool ${agent.tool}`
    else if (agent.event === "step_finish") this.cost += agent.cost ?? 0
    else return
    if (due || Date.now() - this.told >= PROGRESS_INTERVAL) this.tell()
  }

  get jobId() {
    return this.job
  }

  stop() {
    clearInterval(this.timer)
  }

  private tell() {
    this.told = Date.now()
    const elapsed = duration(this.told - this.began)
    const title = [this.host, this.link || this.step, elapsed, `$${this.cost.toFixed(4)}`].filter(Boolean).join(" · ")
    const last = this.last.length > 200 ? `${this.last.slice(0, 199)}…` : this.last
    const metadata = { host: this.host, job: this.job, step: this.step, last, elapsed, cost: this.cost }
    try {
      const told = this.context.metadata({ title, metadata })
      // A call that is over has nobody to show this to.
      if (told && effects) Promise.resolve(effects.runPromise(told)).catch(() => {})
    } catch {
      // The same, where the call answers at once.
    }
  }
}

const collectHint = (job: string | undefined) =>
  job ? `It is brought back with: handover collect ${job}` : "'handover jobs' lists what was sent."

function failed(error: Json, host: string): string {
  const lines = [`remote_login to ${host} failed (${error.kind ?? "other"}): ${error.message ?? "no reason was given"}.`]
  if (error.hint) lines.push(`What helps: ${error.hint}.`)
  if (error.job) lines.push(`Job: ${error.job} (for the user: handover jobs, handover collect ${error.job}).`)
  lines.push("The details are in handover's log on this machine, for the user.")
  return lines.join("\n")
}

function answered(result: Json, host: string): string {
  switch (result.outcome) {
    case "completed":
      return [
        `The session went to the host ${host}, and is back. The last words of the agent on ${host}, quoted:`,
        quoted(result.text || "(no text)"),
        `${figures(result)}; job ${result.job}.`,
        `Everything else from there is in this conversation too. Files that were made or changed there are on ${host}.`,
      ].join("\n\n")
    case "running":
      return [
        `The session runs on the host ${host} now, as job ${result.job}.`,
        "This conversation ends here: do not go on with the task, call no tool; tell the user this in one sentence.",
        collectHint(result.job),
      ].join("\n")
    default:
      return [
        `Waiting was stopped. Job ${result.job} goes on on the host ${host}; the session is not back yet.`,
        collectHint(result.job),
      ].join("\n")
  }
}

/** What the program answered: its JSON lines, the error among them, and why it did not start. */
type Answer = { lines: Json[]; error?: Json }

/** Runs the program once, with `input` on its standard input; an abort interrupts it, and what runs on a host goes on. */
async function ask(parameters: string[], directory: string, context: Json, input = ""): Promise<Answer> {
  const lines: Json[] = []
  const child = start(parameters, directory)
  const ended = finish(child, (line) => lines.push(line))
  child.stdin!.end(input)
  const abort = () => child.kill("SIGINT")
  if (context.abort?.aborted) abort()
  else context.abort?.addEventListener("abort", abort, { once: true })
  const end = await ended
  context.abort?.removeEventListener?.("abort", abort)
  if (end instanceof Error) {
    return { lines, error: { kind: "not_started", message: "the program handover is not where it was" } }
  }
  if (lines.length === 0) {
    return { lines, error: { kind: "interrupted", message: "the program ended without an answer; what it had begun may be done" } }
  }
  return { lines, error: lines.find((line) => line.error)?.error }
}

const lastLine = (answer: Answer): Json => answer.lines[answer.lines.length - 1] ?? {}

function refused(tool: string, error: Json): string {
  const lines = [`${tool} failed (${error.kind ?? "other"}): ${error.message ?? "no reason was given"}.`]
  if (error.hint) lines.push(`What helps: ${error.hint}.`)
  return lines.join("\n")
}

const stateOf = (job: Json) => [job.state, ...(job.attributes ?? [])].join(", ")

/** A job on one line. Titles and prompts are quoted: what they say was not said here. */
function jobLine(job: Json): string {
  const what = job.title ?? job.prompt
  const parts = [job.id, stateOf(job), `on ${job.host}`, job.kind, duration(job.duration_ms ?? 0)]
  if (job.tokens) {
    const least = job.usage_partial ? "at least " : ""
    parts.push(`${least}${job.tokens.input + job.tokens.output} tokens`, `$${(job.cost ?? 0).toFixed(4)}`)
  }
  return parts.join(" · ") + (what ? ` · ${JSON.stringify(what)}` : "")
}

function jobDetails(job: Json): string {
  const lines = [jobLine(job)]
  if (job.session) lines.push(`session ${job.session}`)
  lines.push(`${counted(job.tool_calls ?? 0, "tool call")}; last event: ${job.last_event ?? "none yet"}`)
  if (job.exit_code != null) lines.push(`the agent ended with status ${job.exit_code}`)
  if (job.signal != null) lines.push(`the agent was ended by signal ${job.signal}`)
  if (job.undelivered) lines.push(`${counted(job.undelivered, "message")} that the agent there did not read`)
  if (job.notice) lines.push(`notice: ${job.notice}`)
  if (job.result) lines.push("the beginning of the result, quoted:", quoted(job.result))
  return lines.join("\n")
}

/** One of the agent's events there. */
function eventLine(event: Json): string {
  switch (event.event) {
    case "text":
      return quoted(String(event.text))
    case "tool_use":
      return `[tool ${event.tool}: ${event.status}]`
    case "step_finish":
      return `[step: ${event.tokens?.input ?? 0} tokens in, ${event.tokens?.output ?? 0} out]`
    case "error":
      return "[the agent reported an error]"
    default:
      return ""
  }
}

const text = (description: string) => ({ type: "string", description })
const JOB = text("The job: its id, or the beginning of one")

/** What is asked of a tool, and what it needs of that: opencode takes every plain argument for required. */
type JobTool = {
  description: string
  args: Json
  required: string[]
  /** What the user's permissions are asked for: a host or a job. */
  pattern: (args: Json) => string
  run: (args: Json, context: Json, directory: string) => Promise<string>
}

const JOB_TOOLS: Record<string, JobTool> = {
  remote_run: {
    description:
      "Starts a fresh agent on another machine with a task of its own, and answers at once with the job's id. It works " +
      "there in the background and knows nothing of this conversation: the prompt must say all that it needs. " +
      "remote_login lists the hosts.",
    args: {
      host: text("The host's name"),
      prompt: text("The task, complete"),
      directory: text("The work directory on the host; left out: the configured one"),
      agent: text("The agent to use; left out: the default"),
      model: text("The model to use, provider/model; left out: the default"),
      title: text("A title for the job"),
    },
    required: ["host", "prompt"],
    pattern: (args) => String(args.host),
    async run(args, context, directory) {
      const parameters = ["run", "--for-model", `--parent=${context.sessionID}`]
      if (args.directory) parameters.push(`--dir=${args.directory}`)
      for (const name of ["agent", "model", "title"]) if (args[name]) parameters.push(`--${name}=${args[name]}`)
      const answer = await ask([...parameters, "--", String(args.host), "-"], directory, context, String(args.prompt))
      if (answer.error) return refused("remote_run", answer.error)
      const job = lastLine(answer).job ?? answer.lines.find((line) => line.job)?.job
      if (!job) return "The job was not started."
      return `The agent runs on the host ${args.host} as job ${job}. remote_status and remote_logs show how far it is, remote_collect waits for its result.`
    },
  },
  remote_jobs: {
    description:
      "Lists the jobs on other machines that have not ended, or whose result was not collected, after a quick look at " +
      "the machines; one that did not answer is unreachable, and its jobs are as they were last seen.",
    args: { all: { type: "boolean", description: "Those that were collected too" } },
    required: [],
    pattern: () => "*",
    async run(args, context, directory) {
      const all = args.all === true || args.all === "true" ? ["--all"] : []
      const answer = await ask(["jobs", "--for-model", ...all], directory, context)
      if (answer.error) return refused("remote_jobs", answer.error)
      const jobs: Json[] = Array.isArray(lastLine(answer)) ? (lastLine(answer) as Json[]) : []
      const shown = jobs.slice(0, 50).map(jobLine)
      if (jobs.length > shown.length) shown.push(`and ${jobs.length - shown.length} older ones`)
      return shown.join("\n") || "There are no jobs."
    },
  },
  remote_status: {
    description: "Looks at one job on another machine: its state, what it has used, what is odd about it.",
    args: { job: JOB },
    required: ["job"],
    pattern: (args) => String(args.job),
    async run(args, context, directory) {
      const answer = await ask(["status", "--for-model", "--", String(args.job)], directory, context)
      return answer.error ? refused("remote_status", answer.error) : jobDetails(lastLine(answer))
    },
  },
  remote_collect: {
    description:
      "Waits until a job on another machine has ended, and answers with its result. With seconds it waits that long at " +
      "most; the job goes on then.",
    args: { job: JOB, seconds: { type: "number", description: "How long to wait at most; left out: to the end" } },
    required: ["job"],
    pattern: (args) => String(args.job),
    async run(args, context, directory) {
      const limit = Number(args.seconds) > 0 ? [`--timeout=${Math.ceil(Number(args.seconds))}s`] : []
      const answer = await ask(["collect", "--for-model", ...limit, "--", String(args.job)], directory, context)
      if (answer.error) return refused("remote_collect", answer.error)
      const result = answer.lines.find((line) => line.event === "result") ?? {}
      switch (result.outcome) {
        case "completed":
          return [
            `Job ${result.job} on the host ${result.host} has ended. The last words of its agent, quoted:`,
            quoted(result.text || "(no text)"),
            `${figures(result)}.` + (result.agent_exit ? ` The agent ended with status ${result.agent_exit}.` : ""),
          ].join("\n\n")
        case "closed":
          return `Job ${result.job} was never launched, and is closed now.`
        default:
          return `Job ${result.job ?? args.job} has not ended yet, and goes on.`
      }
    },
  },
  remote_say: {
    description: "Gives the agent of a running job a message, which it reads after its present turn.",
    args: { job: JOB, message: text("What the agent there is told") },
    required: ["job", "message"],
    pattern: (args) => String(args.job),
    async run(args, context, directory) {
      const answer = await ask(["say", "--for-model", "--", String(args.job), "-"], directory, context, String(args.message))
      if (answer.error) return refused("remote_say", answer.error)
      return `Job ${lastLine(answer).job} has the message; its agent reads it after its present turn.`
    },
  },
  remote_kill: {
    description:
      "Ends a job that was started in this session: its agent and everything that it has started. What it had done can " +
      "be collected.",
    args: { job: JOB },
    required: ["job"],
    pattern: (args) => String(args.job),
    async run(args, context, directory) {
      const parameters = ["kill", "--for-model", `--parent=${context.sessionID}`, "--", String(args.job)]
      const answer = await ask(parameters, directory, context)
      if (answer.error) return refused("remote_kill", answer.error)
      const killed = lastLine(answer)
      const rest = killed.result ? " What it had done can be collected with remote_collect." : ""
      if (killed.outcome === "already_ended") return `Job ${killed.job} had ended already: ${killed.state}.${rest}`
      if (killed.outcome === "closed") return `Job ${killed.job} was never launched, and never will be.`
      const left = killed.left > 0 ? ` ${killed.left} of its processes could not be ended.` : ""
      return `Job ${killed.job} on the host ${killed.host} is ended.${left}${rest}`
    },
  },
  remote_logs: {
    description: "Shows the end of what a job's agent has said and done.",
    args: { job: JOB },
    required: ["job"],
    pattern: (args) => String(args.job),
    async run(args, context, directory) {
      const answer = await ask(["logs", "--for-model", "--", String(args.job)], directory, context)
      if (answer.error) return refused("remote_logs", answer.error)
      const tail = lastLine(answer)
      const lines = (tail.events ?? []).map(eventLine).filter(Boolean)
      return [`Job ${tail.job}, the end of its events; what its agent said is quoted:`, ...lines].join("\n")
    },
  },
}

export default {
  id: "handover",
  server: async (input: Json) => {
    let mismatchTold = false
    /** Sessions whose next user message is the review, and who waits for it. */
    const reviews = new Map<string, () => void>()

    const withNote = (text: string, version: string | undefined) => {
      if (mismatchTold || !version || version === VERSION) return text
      mismatchTold = true
      return (
        `${text}\n\nNote for the user: this plugin is of handover ${VERSION}, and the program is ${version}; ` +
        "'handover plugin install' brings them together."
      )
    }

    /** Starts the turn in which what was done there is looked at, and waits until opencode has noted its message. */
    async function review(host: string, context: Json) {
      const body: Json = {
        agent: context.agent,
        parts: [
          {
            type: "text",
            text:
              `[handover] The session is back from the host ${host} and runs on this machine again. Look at what was ` +
              "done there, say what came out and what remains, and go on here where something is left to do here. " +
              "Do not hand the session over again unless the user asks.",
          },
        ],
      }
      try {
        const path = { id: context.sessionID, messageID: context.messageID }
        const calling = (await input.client.session.message({ path }))?.data?.info
        if (calling?.providerID && calling?.modelID) {
          body.model = { providerID: calling.providerID, modelID: calling.modelID }
        }
      } catch {
        // Then the session's own model is used.
      }
      // opencode answers before the message is there; a run that ends with its session must not miss it.
      let timer: ReturnType<typeof setTimeout> | undefined
      const noted = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, REVIEW_DEADLINE)
        reviews.set(context.sessionID, resolve)
      })
      try {
        const started = await input.client.session.promptAsync({ path: { id: context.sessionID }, body })
        if (started?.error) return false
        await noted
        return true
      } catch {
        return false
      } finally {
        clearTimeout(timer)
        reviews.delete(context.sessionID)
      }
    }

    async function handOver(args: Json, host: string, mode: string, context: Json): Promise<string> {
      const parameters = ["send", "--for-model", "--tool-call", `--session=${context.sessionID}`, `--${mode}`]
      if (args.directory) parameters.push(`--dir=${args.directory}`)
      const progress = new Progress(host, context)
      const child = start([...parameters, "--", host], context.directory ?? input.directory)
      let result: Json | undefined
      let error: Json | undefined
      const ended = finish(child, (line) => {
        if (line.event === "result") result = line
        else if (line.error) error = line.error
        else progress.take(line)
      })
      // The end of its input tells the program to let go: on an abort, and when opencode ends.
      child.stdin!.write(`${JSON.stringify({ id: context.callID, arguments: args })}\n`)
      const letGo = () => child.stdin!.end()
      const aborted = new Promise<"aborted">((resolve) => {
        const abort = () => {
          letGo()
          setTimeout(() => resolve("aborted"), DETACH_DEADLINE)
        }
        if (context.abort?.aborted) abort()
        else context.abort?.addEventListener("abort", abort, { once: true })
      })
      const end = await Promise.race([ended, aborted])
      progress.stop()
      letGo()
      if (result?.outcome === "completed") {
        const reviewed = context.abort?.aborted ? true : await review(host, context)
        return answered(result, host) + (reviewed ? "" : "\n\nReview now what was done there, and tell the user.")
      }
      if (result) return answered(result, host)
      if (error) return failed(error, host)
      if (end === "aborted") {
        return `Waiting was stopped. What was launched on the host ${host} goes on. ${collectHint(progress.jobId)}`
      }
      if (end instanceof Error) return (await list(input.directory)).error?.message ?? "handover did not start."
      return `handover ended without a result (status ${end}). ${collectHint(progress.jobId)}`
    }

    const library = "effect"
    effects ??= await import(library).then(
      (module) => module.Effect,
      () => undefined,
    )
    const first = await list(input.directory)
    const jobTools = Object.entries(JOB_TOOLS).map(([name, tool]) => [
      name,
      {
        description: tool.description,
        args: tool.args,
        async execute(args: Json, context: Json) {
          const missing = tool.required.filter((key) => !String(args[key] ?? "").trim())
          if (missing.length) return { title: name, output: `${name} needs ${missing.join(" and ")}.`, metadata: {} }
          const pattern = tool.pattern(args)
          await context.ask?.({ permission: name, patterns: [pattern], always: [pattern], metadata: {} })
          const output = await tool.run(args, context, context.directory ?? input.directory)
          return { title: `${name} ${pattern}`, output, metadata: {} }
        },
      },
    ])
    return {
      tool: {
        ...Object.fromEntries(jobTools),
        [TOOL]: {
          description: description(first),
          args: {
            host: { type: "string", description: "The host's name, one of the list" },
            mode: { type: "string", enum: MODES, description: "one-way (default) or round-trip" },
            directory: { type: "string", description: "The work directory on the host; left out: the configured one" },
            message: { type: "string", description: "What the agent there is told besides finishing the task" },
            help: { type: "boolean", description: "Explain the configuration, and do nothing" },
          },
          async execute(args: Json, context: Json) {
            const listing = await list(context.directory ?? input.directory)
            const say = (output: string) => ({ title: TOOL, output: withNote(output, listing.version), metadata: {} })
            if (args.help === true || args.help === "true") return say(help(listing))
            const mode = args.mode || MODES[0]
            if (!MODES.includes(mode)) {
              return say(`There is no mode ${JSON.stringify(mode)}; the modes are ${MODES.join(" and ")}.`)
            }
            const host = args.host ? String(args.host) : ""
            if (!host) return say(`Name a host. ${names(listing)}`)
            if (listing.hosts && !listing.hosts.includes(host)) {
              return say(`There is no host ${JSON.stringify(host)}. ${names(listing)}`)
            }
            // Allowed unless the user's permissions for remote_login, by host, say ask or deny; then this throws.
            await context.ask?.({ permission: TOOL, patterns: [host], always: [host], metadata: { host, mode } })
            return { ...say(await handOver(args, host, mode, context)), title: `${TOOL} ${host}, ${mode}` }
          },
        },
      },
      // Asked before every call of the model, so the list is as the hosts files are now.
      "tool.definition": async (asked: Json, output: Json) => {
        const jobTool = JOB_TOOLS[asked.toolID]
        if (jobTool && output.jsonSchema) output.jsonSchema = { ...output.jsonSchema, required: jobTool.required }
        if (asked.toolID !== TOOL) return
        output.description = description(await list(input.directory))
        // opencode takes every plain argument for required, and none is.
        if (output.jsonSchema) output.jsonSchema = { ...output.jsonSchema, required: [] }
      },
      "chat.message": async (asked: Json) => {
        reviews.get(asked.sessionID)?.()
      },
    }
  },
}
