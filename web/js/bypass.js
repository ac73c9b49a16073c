// Ctrl+B on the nodes whose inputs have the original's order. The editor connects an output of a bypassed node to the first input
// of its type, and so the positive prompt to the negative side. In a prompt that is being made these nodes stand as if they were
// not bypassed; then each of their outputs is replaced by the input of the same name.
import { app } from "../../../scripts/app.js"

const OUTPUTS = {
    ApplyInstantID: ["model", "positive", "negative"],
    ApplyInstantIDAdvanced: ["model", "positive", "negative"],
    ApplyInstantIDControlNet: ["positive", "negative"],
}
const ALWAYS = 0
const BYPASSED = 4              // values of a node's mode
const standing = new Map()      // bypassed nodes that stand in prompts: how many prompts are being made

// Gives [id in a prompt, node] of the bypassed nodes in a graph and in its subgraphs.
function bypassedIn(graph, path = "") {
    return graph.nodes.flatMap((node) => {
        if (node.subgraph) return bypassedIn(node.subgraph, `${path}${node.id}:`)
        const bypassed = OUTPUTS[node.comfyClass] && (node.mode === BYPASSED || standing.has(node))
        return bypassed ? [[`${path}${node.id}`, node]] : []
    })
}

// Takes nodes out of a prompt. outputs: their ids in it, and the names of the inputs that they hand on.
function handOn(prompt, outputs) {
    for (const { inputs } of Object.values(prompt)) {
        for (const name of Object.keys(inputs)) {
            while (Array.isArray(inputs[name]) && outputs.has(inputs[name][0])) {
                const [id, slot] = inputs[name]
                inputs[name] = prompt[id]?.inputs[outputs.get(id)[slot]]
            }
            if (inputs[name] === undefined) delete inputs[name]
        }
    }
    for (const id of outputs.keys()) delete prompt[id]
}

app.registerExtension({
    name: "InstantIDSwift.Bypass",
    beforeRegisterNodeDef(nodeType, { name }) {
        if (!OUTPUTS[name]) return
        const { onSerialize } = nodeType.prototype
        nodeType.prototype.onSerialize = function (saved) {
            onSerialize?.apply(this, arguments)
            if (standing.has(this)) saved.mode = BYPASSED
        }
    },
    setup() {
        const { graphToPrompt } = app
        app.graphToPrompt = async function (graph = app.rootGraph ?? app.graph) {
            const bypassed = bypassedIn(graph)
            const nodes = new Set(bypassed.map(([, node]) => node))
            for (const node of nodes) {
                standing.set(node, (standing.get(node) ?? 0) + 1)
                node.mode = ALWAYS
            }
            try {
                const made = await graphToPrompt.apply(this, arguments)
                handOn(made.output, new Map(bypassed.map(([id, node]) => [id, OUTPUTS[node.comfyClass]])))
                return made
            } finally {
                for (const node of nodes) {
                    const left = standing.get(node) - 1
                    if (left) standing.set(node, left)
                    else {
                        standing.delete(node)
                        node.mode = BYPASSED
                    }
                }
            }
        }
    },
})
