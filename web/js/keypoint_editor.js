// The editor on the node InstantID Edit Keypoints. Its state is the text of the widget `state`, in the JSON form of
// keypoints/json_form.py; an empty text shows what the node began with. Heads are turned by the server (keypoints/routes.py).
import { app } from "../../../scripts/app.js"
import { api } from "../../../scripts/api.js"

const NODE = "InstantIDEditKeypoints"
const COLOURS = ["#ff0000", "#00ff00", "#0000ff", "#ffff00", "#ff00ff"]   // as utils.py draws them
const NAMES = ["left eye", "right eye", "nose", "left corner of the mouth", "right corner of the mouth"]
const NOSE = 2
const GRAB = 9                  // screen pixels around a point or handle
const MOST_UNDO = 100
const DEGREES_PER_PIXEL = 0.5
const HELP = "Keypoint editor. Keys: N next face, 1 to 5 choose a point, 0 the whole face, arrows move, plus and minus scale, " +
    "Q and E tilt, A and D turn, W and S lift, F adds a face, Delete removes it, Ctrl+Z undo, Ctrl+Y redo."

class Editor {
    constructor(node, state) {
        this.node = node
        this.state = state                  // the widget that holds the text
        this.begun = ""                     // what the node shows while the text is empty
        this.undone = []
        this.done = []
        this.face = 0
        this.point = null                   // number of the chosen point, null for the whole face
        this.wanted = null                  // the last question about a turn, while it is not answered
        this.drag = null
        this.image = null
        this.asking = Promise.resolve()
        this.element = document.createElement("div")
        Object.assign(this.element.style, { display: "flex", flexDirection: "column", gap: "4px", width: "100%" })
        this.canvas = document.createElement("canvas")
        this.canvas.tabIndex = 0
        this.canvas.type = "textarea"       // ComfyUI leaves Ctrl+Z and Ctrl+Y to what has a history of its own,
        this.canvas.contentEditable = "true"        // which later versions know by this
        this.canvas.setAttribute("role", "application")
        this.canvas.setAttribute("aria-label", HELP)
        this.canvas.title = HELP
        Object.assign(this.canvas.style, { width: "100%", minHeight: "0", flex: "1", touchAction: "none", cursor: "crosshair" })
        this.bar = document.createElement("div")
        Object.assign(this.bar.style, { display: "flex", gap: "4px", flexWrap: "wrap" })
        for (const [name, act] of [["Add face", () => this.addFace()], ["Remove face", () => this.removeFace()],
            ["Undo", () => this.undo()], ["Redo", () => this.redo()], ["Reset", () => this.reset()]]) {
            const button = document.createElement("button")
            button.type = "button"
            button.textContent = name
            button.dataset.act = name
            button.addEventListener("click", act)
            this.bar.append(button)
        }
        this.element.append(this.canvas, this.bar)
        this.canvas.addEventListener("pointerdown", (event) => this.press(event))
        this.canvas.addEventListener("pointermove", (event) => this.move(event))
        this.canvas.addEventListener("pointerup", () => this.release())
        this.canvas.addEventListener("pointercancel", () => this.release())
        this.canvas.addEventListener("keydown", (event) => this.key(event))
        new ResizeObserver(() => this.draw()).observe(this.canvas)
        this.begin()
    }

    // ---- the state ----

    size() {
        const of = (name) => Number(this.node.widgets.find((widget) => widget.name === name)?.value) || 1024
        return { width: of("width"), height: of("height") }
    }

    // The faces as {points: [[x, y], ...], opacities} in the picture of the widgets' size; none of a text that the server refuses
    // in a sentence when it is queued.
    faces() {
        const { width, height } = this.size()
        try {
            const found = JSON.parse(this.state.value.trim() || this.begun || "[]")
            const faces = (Array.isArray(found) ? found : [found]).map((face) => ({
                points: face.array.map(([x, y]) => [x * width / face.width, y * height / face.height]),
                opacities: face.opacities ?? [1, 1, 1, 1, 1] }))
            return faces.every(({ points }) => points.length === NAMES.length && points.flat().every(Number.isFinite)) ? faces : []
        } catch {
            return []
        }
    }

    text(faces) {
        const { width, height } = this.size()
        const round = (number) => Math.round(number * 1000) / 1000
        const all = faces.map((face) => ({ width, height, array: face.points.map((point) => point.map(round)),
            opacities: face.opacities.map(round) }))
        return all.length === 1 ? JSON.stringify(all[0]) : JSON.stringify(all)
    }

    remember() {
        if (this.done.at(-1) === this.state.value) return
        this.done.push(this.state.value)
        if (this.done.length > MOST_UNDO) this.done.shift()
        this.undone = []
    }

    set(text) {
        this.wanted = null                  // what the server still answers belongs to an older state
        this.state.value = text
        this.state.callback?.(text)
        this.node.graph?.change?.()
        app.graph?.setDirtyCanvas?.(true, true)
        this.draw()
    }

    put(faces) {
        this.set(this.text(faces))
    }

    undo() {
        if (!this.done.length) return
        this.undone.push(this.state.value)
        this.set(this.done.pop())
    }

    redo() {
        if (!this.undone.length) return
        this.done.push(this.state.value)
        this.set(this.undone.pop())
    }

    reset() {
        this.remember()
        this.set("")
    }

    // ---- what the server knows ----

    async ask(question) {
        const answer = await api.fetchApi("/instantid_swift/keypoints", { method: "POST", body: JSON.stringify(question),
            headers: { "Content-Type": "application/json" } })
        return answer.ok ? (await answer.json()).state : null
    }

    async begin() {
        if (!this.begun) this.begun = await this.ask(this.size()) ?? ""
        this.draw()
    }

    // Turns the chosen face further than it stood in `text`. Questions wait for each other, and only the last one counts.
    turn(text, angles) {
        const question = { state: text, face: this.face, yaw: 0, pitch: 0, roll: 0, ...angles }
        this.wanted = question
        this.asking = this.asking.then(async () => {
            if (this.wanted !== question) return
            const turned = await this.ask(question)
            if (turned && this.wanted === question) this.set(turned)
        })
        return this.asking
    }

    // The same for a key. Presses that come before the server has answered add up.
    turnFurther(text, angles) {
        const pending = this.wanted?.state === text && this.wanted.face === this.face ? this.wanted : {}
        const sum = (name) => (pending[name] ?? 0) + (angles[name] ?? 0)
        this.turn(text, { yaw: sum("yaw"), pitch: sum("pitch"), roll: sum("roll") })
    }

    // ---- faces ----

    chosen(faces) {
        this.face = Math.max(Math.min(this.face, faces.length - 1), 0)
        return faces[this.face]
    }

    middle(face) {
        return [0, 1].map((axis) => face.points.reduce((sum, point) => sum + point[axis], 0) / face.points.length)
    }

    async addFace() {
        const head = await this.ask(this.size())
        if (!head) return
        const first = JSON.parse(head)
        const faces = this.faces()
        faces.push({ points: this.beside(faces, first.array), opacities: first.opacities })
        this.remember()
        this.face = faces.length - 1
        this.point = null
        this.put(faces)
    }

    // The points of a new face in the middle of the wider free strip to the left or the right of the faces.
    beside(faces, points) {
        if (!faces.length) return points
        const xs = faces.flatMap((face) => face.points.map(([x]) => x))
        const [left, right] = [Math.max(Math.min(...xs), 0), Math.min(Math.max(...xs), this.size().width)]
        const free = Math.max(left, this.size().width - right)
        const [, y] = this.middle({ points: faces.flatMap((face) => face.points) })
        const middle = [left > this.size().width - right ? left / 2 : (right + this.size().width) / 2, y]
        const own = points.map(([x]) => x)
        const factor = Math.min(1, Math.max(free / 3, this.size().width / 20) / (Math.max(...own) - Math.min(...own)))
        const from = this.middle({ points })
        return points.map((point) => point.map((value, axis) => middle[axis] + (value - from[axis]) * factor))
    }

    removeFace() {
        const faces = this.faces()
        if (faces.length < 2) return
        this.remember()
        faces.splice(this.face, 1)
        this.point = null
        this.chosen(faces)
        this.put(faces)
    }

    // Changes the chosen face's points by function(point, middle); only the chosen point where there is one.
    change(faces, function_) {
        const face = this.chosen(faces)
        if (!face) return
        const middle = this.middle(face)
        face.points = face.points.map((point, number) =>
            this.point === null || this.point === number ? function_(point, middle) : point)
        this.put(faces)
    }

    // ---- where things are on the screen ----

    layout() {
        const { width, height } = this.size()
        const box = this.canvas.getBoundingClientRect()
        const scale = Math.min(this.canvas.clientWidth / width, this.canvas.clientHeight / height) || 1
        return { width, height, scale, zoom: box.width / (this.canvas.clientWidth || 1), box,
            left: (this.canvas.clientWidth - width * scale) / 2, top: (this.canvas.clientHeight - height * scale) / 2 }
    }

    at(event) {
        const { box, zoom, scale, left, top } = this.layout()
        return [((event.clientX - box.left) / zoom - left) / scale, ((event.clientY - box.top) / zoom - top) / scale]
    }

    handles(face) {
        const { scale } = this.layout()
        const xs = face.points.map((point) => point[0])
        const ys = face.points.map((point) => point[1])
        const pad = 26 / scale
        const [left, top, right, bottom] = [Math.min(...xs) - pad, Math.min(...ys) - pad, Math.max(...xs) + pad, Math.max(...ys) + pad]
        return { box: [left, top, right, bottom], scale: [right, bottom], roll: [right, top], turn: [left, top] }
    }

    press(event) {
        this.canvas.focus()
        event.preventDefault()
        event.stopPropagation()
        const faces = this.faces()
        if (!faces.length) return
        this.canvas.setPointerCapture(event.pointerId)
        const at = this.at(event)
        const reach = GRAB / this.layout().scale
        const near = (place) => Math.hypot(place[0] - at[0], place[1] - at[1]) <= reach
        const handles = this.handles(this.chosen(faces))
        const handle = ["scale", "roll", "turn"].find((name) => near(handles[name]))
        let kind = handle
        if (!kind) {
            const hit = [this.face, ...faces.keys()].flatMap((face) => faces[face].points.map((point, number) => ({ face, number, point })))
                .find(({ point }) => near(point))
            const inside = [this.face, ...faces.keys()].find((face) => {
                const [left, top, right, bottom] = this.handles(faces[face]).box
                return at[0] >= left && at[0] <= right && at[1] >= top && at[1] <= bottom
            })
            if (hit) [this.face, this.point, kind] = [hit.face, hit.number, "point"]
            else if (inside !== undefined) [this.face, this.point, kind] = [inside, null, "face"]
        } else {
            this.point = null
        }
        if (kind) this.drag = { kind, from: at, before: this.text(faces), faces, kept: this.state.value, moved: false }
        this.draw()
    }

    move(event) {
        if (!this.drag) return
        event.preventDefault()
        const { kind, from, faces, before } = this.drag
        const at = this.at(event)
        const [dx, dy] = [at[0] - from[0], at[1] - from[1]]
        if (!dx && !dy) return
        if (!this.drag.moved) {
            this.drag.moved = true
            this.remember()
        }
        const copy = structuredClone(faces)
        const middle = this.middle(faces[this.face])
        const angle = ([x, y]) => Math.atan2(y - middle[1], x - middle[0]) * 180 / Math.PI
        const reach = ([x, y]) => Math.hypot(x - middle[0], y - middle[1])
        if (kind === "scale") {
            const factor = Math.max(reach(at) / reach(from), 0.05)
            this.change(copy, ([x, y]) => [middle[0] + (x - middle[0]) * factor, middle[1] + (y - middle[1]) * factor])
        } else if (kind === "roll") {
            this.turn(before, { roll: angle(at) - angle(from) })
        } else if (kind === "turn") {
            const { scale } = this.layout()
            this.turn(before, { yaw: dx * scale * DEGREES_PER_PIXEL, pitch: -dy * scale * DEGREES_PER_PIXEL })
        } else {
            this.change(copy, ([x, y]) => [x + dx, y + dy])
        }
    }

    release() {
        this.drag = null
        this.draw()
    }

    key(event) {
        const faces = this.faces()
        const step = (event.shiftKey ? 10 : 1) * this.size().width / 512
        const arrows = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }
        const turns = { a: { yaw: -5 }, d: { yaw: 5 }, w: { pitch: 5 }, s: { pitch: -5 }, q: { roll: -5 }, e: { roll: 5 } }
        const key = event.key.length === 1 ? event.key.toLowerCase() : event.key
        const edit = (act) => { this.remember(); act() }
        const scale = (factor) => edit(() => {
            this.point = null
            this.change(faces, ([x, y], [mx, my]) => [mx + (x - mx) * factor, my + (y - my) * factor])
        })
        if ((event.ctrlKey || event.metaKey) && key === "z") event.shiftKey ? this.redo() : this.undo()
        else if ((event.ctrlKey || event.metaKey) && key === "y") this.redo()
        else if (event.ctrlKey || event.metaKey || event.altKey) return
        else if (arrows[key]) edit(() => this.change(faces, ([x, y]) => [x + arrows[key][0], y + arrows[key][1]]))
        else if (turns[key] && faces.length) edit(() => this.turnFurther(this.text(faces), turns[key]))
        else if (key === "+" || key === "=") scale(1.05)
        else if (key === "-") scale(1 / 1.05)
        else if (key === "n" && faces.length) [this.face, this.point] = [(this.face + 1) % faces.length, null]
        else if ("12345".includes(key)) this.point = Number(key) - 1
        else if (key === "0" || key === "Escape") this.point = null
        else if (key === "f") this.addFace()
        else if (key === "Delete" || key === "Backspace") this.removeFace()
        else return                         // Tab goes on to the buttons
        event.preventDefault()
        event.stopPropagation()
        this.draw()
    }

    // ---- the picture ----

    background() {
        const { graph, inputs } = this.node  // the graph of a subgraph, if the node is in one
        const link = inputs?.find((input) => input.name === "background")?.link
        return link == null ? null : this.image ?? graph?.getNodeById(graph.links[link]?.origin_id)?.imgs?.[0]
    }

    draw() {
        const [across, down] = [this.canvas.clientWidth, this.canvas.clientHeight]
        if (!across || !down) return
        const dense = window.devicePixelRatio || 1
        if (this.canvas.width !== Math.round(across * dense)) this.canvas.width = Math.round(across * dense)
        if (this.canvas.height !== Math.round(down * dense)) this.canvas.height = Math.round(down * dense)
        const paint = this.canvas.getContext("2d")
        const { width, height, scale, left, top } = this.layout()
        paint.setTransform(1, 0, 0, 1, 0, 0)
        paint.clearRect(0, 0, this.canvas.width, this.canvas.height)
        paint.setTransform(dense * scale, 0, 0, dense * scale, dense * left, dense * top)
        paint.fillStyle = "#000"
        paint.fillRect(0, 0, width, height)
        const picture = this.background()
        if (picture?.complete && picture.naturalWidth) {
            paint.globalAlpha = 0.7
            paint.drawImage(picture, 0, 0, width, height)
        }
        const faces = this.faces()
        faces.forEach((face, number) => this.drawFace(paint, face, scale, faces.length > 1 || number === this.face ? number : null))
        const face = this.chosen(faces)
        if (face) this.drawHandles(paint, face, scale)
        paint.globalAlpha = 1
    }

    drawFace(paint, face, scale, number) {
        for (const layer of ["stick", "point"]) {
            face.points.forEach((point, index) => {
                paint.globalAlpha = Math.max(face.opacities[index] ?? 1, 0.15) * (layer === "stick" ? 0.6 : 1)
                paint.strokeStyle = paint.fillStyle = COLOURS[index]
                paint.beginPath()
                if (layer === "point") {
                    paint.arc(...point, (number === this.face && index === this.point ? 8 : 5) / scale, 0, 2 * Math.PI)
                    paint.fill()
                } else if (index !== NOSE) {
                    paint.lineWidth = 3 / scale
                    paint.moveTo(...point)
                    paint.lineTo(...face.points[NOSE])
                    paint.stroke()
                }
            })
        }
    }

    drawHandles(paint, face, scale) {
        const { box: [left, top, right, bottom], ...handles } = this.handles(face)
        paint.globalAlpha = 1
        paint.strokeStyle = paint.fillStyle = "#fff"
        paint.lineWidth = 1 / scale
        paint.strokeRect(left, top, right - left, bottom - top)
        paint.font = `${14 / scale}px sans-serif`
        paint.textAlign = "center"
        paint.textBaseline = "middle"
        for (const [name, sign] of [["scale", "⤡"], ["roll", "↻"], ["turn", "⇄"]]) {
            paint.fillStyle = "#222"
            paint.beginPath()
            paint.arc(...handles[name], GRAB / scale, 0, 2 * Math.PI)
            paint.fill()
            paint.stroke()
            paint.fillStyle = "#fff"
            paint.fillText(sign, ...handles[name])
        }
        paint.textAlign = "left"
        const chosen = this.point === null ? "" : `, ${NAMES[this.point]}`
        paint.fillText(`face ${this.face}${chosen}`, left, bottom + 12 / scale)
    }

    // What the node has said when it ran.
    executed(output) {
        const begun = output?.instantid_begun_with?.[0]
        if (begun) this.begun = begun
        const file = output?.instantid_background?.[0]
        if (file) {
            this.image = new Image()
            this.image.onload = () => this.draw()
            this.image.src = api.apiURL(`/view?${new URLSearchParams(file)}`)
        }
        this.draw()
    }
}

app.registerExtension({
    name: "InstantIDSwift.KeypointEditor",
    beforeRegisterNodeDef(nodeType, { name }) {
        if (name !== NODE) return
        const { onNodeCreated, onConfigure, onExecuted, onConnectionsChange } = nodeType.prototype
        nodeType.prototype.onNodeCreated = function () {
            onNodeCreated?.apply(this, arguments)
            const state = this.widgets.find((widget) => widget.name === "state")
            state.hidden = true
            state.options.hidden = true         // in place: Nodes 2.0 has taken these options already
            const editor = this.instantidEditor = new Editor(this, state)
            this.addDOMWidget("editor", "instantid_keypoints", editor.element,
                { serialize: false, getMinHeight: () => 340, getHeight: () => "100%", hideOnZoom: false,
                    hideInPanel: true })        // the panel would take the editor off the node
            for (const widget of this.widgets.filter(({ name }) => name === "width" || name === "height")) {
                const { callback } = widget
                widget.callback = function () {
                    callback?.apply(this, arguments)
                    if (!state.value) editor.begun = ""
                    editor.begin()
                }
            }
            this.setSize([Math.max(this.size[0], 380), Math.max(this.size[1], 560)])
        }
        nodeType.prototype.onConfigure = function () {
            onConfigure?.apply(this, arguments)
            this.instantidEditor?.begin()
        }
        nodeType.prototype.onConnectionsChange = function () {
            onConnectionsChange?.apply(this, arguments)
            if (!this.instantidEditor) return
            this.instantidEditor.image = null   // the background of an earlier run
            this.instantidEditor.draw()
        }
        nodeType.prototype.onExecuted = function (output) {
            onExecuted?.apply(this, arguments)
            this.instantidEditor?.executed(output)
        }
    },
})
