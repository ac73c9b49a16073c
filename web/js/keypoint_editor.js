// The editor on the node InstantID Edit Keypoints. Its state is the text of the widget `state`, in the JSON form of
// keypoints/json_form.py; an empty text shows what the node began with. Heads are turned by the server (keypoints/routes.py).
import { app } from "../../../scripts/app.js"
import { api } from "../../../scripts/api.js"

const NODE = "InstantIDEditKeypoints"
const COLOURS = ["#ff0000", "#00ff00", "#0000ff", "#ffff00", "#ff00ff"]   // as utils.py draws them
const NOSE = 2
const GRAB = 11, HANDLE = 14, FRAME = 22    // screen pixels around a point and a handle, and from the points to their frame
const MOST_UNDO = 100
const DEGREES_PER_PIXEL = 0.5
const LEAST_HEIGHT = 200, MOST_HEIGHT = 800     // pixels of the editor, hint and buttons included
const BELOW_PICTURE = 74        // pixels of the hint, the buttons and the margins
const SIGNS = {                 // paths in a box of 24 around 0
    turn: "M0-9a4.5 4.5 0 1 1 0 9 4.5 4.5 0 1 1 0-9M-9 0c1 4 5 6 9 6s8-2 9-6M-10.5 4L-9-.5-5 2M10.5 4L9-.5 5 2",
    roll: "M8 0a8 8 0 1 1-2.5-5.8M8-10v6H2",
    scale: "M-7-7L7 7M-7 0v-7h7M7 0v7h-7",
}
// Texts are [English, Chinese, keys that do the same].
const NAMES = [["left eye", "左眼", "1"], ["right eye", "右眼", "2"], ["nose", "鼻子", "3"],
    ["left corner of the mouth", "左嘴角", "4"], ["right corner of the mouth", "右嘴角", "5"]]
const HINTS = {
    turn: ["Turn the head left, right, up or down", "向左、右、上、下转头", "A D W S"],
    roll: ["Tilt the head", "倾斜头部", "Q E"],
    scale: ["Scale the face", "缩放脸", "+ -"],
    face: ["Move the face", "移动脸", "← ↑ → ↓"],
}
const IDLE = ["Drag points, a face, or its corners: turn, tilt, scale.", "拖动点、脸，或脸的角：转头、倾斜、缩放。"]
const FACE = ["face", "脸"]
const EDITOR = ["Keypoint editor. Next face (N), whole face (0)", "关键点编辑器。下一张脸 (N)，整张脸 (0)"]
const BUTTON = "padding: 2px 8px; border: 1px solid var(--border-color); border-radius: 4px; cursor: pointer; " +
    "color: var(--input-text); background: var(--comfy-input-bg); font-family: inherit; font-size: 12px"

const say = (text) => text[app.extensionManager.setting.get("Comfy.Locale") === "zh" ? 1 : 0]
const sayWithKeys = (text) => text[2] ? `${say(text)} (${text[2]})` : say(text)
const clamp = (value, least, most) => Math.max(least, Math.min(value, most))

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
        this.element.className = "instantid-keypoints"
        Object.assign(this.element.style, { display: "flex", flexDirection: "column", gap: "4px", width: "100%" })
        this.canvas = document.createElement("canvas")
        this.canvas.tabIndex = 0
        this.canvas.type = "textarea"       // ComfyUI leaves Ctrl+Z and Ctrl+Y to what has a history of its own,
        this.canvas.contentEditable = "true"        // which later versions know by this
        this.canvas.setAttribute("role", "application")
        this.canvas.setAttribute("aria-label", [say(EDITOR), ...[...Object.values(HINTS), ...NAMES].map(sayWithKeys)].join(", "))
        Object.assign(this.canvas.style, { width: "100%", minHeight: "100px", touchAction: "none", cursor: "crosshair",
            flex: "1 1 0px" })              // "1" would hold Nodes 2.0 at the height of the last drawing
        this.bar = document.createElement("div")
        Object.assign(this.bar.style, { display: "flex", gap: "4px", flexWrap: "wrap" })
        for (const [text, act] of [[["Add face", "添加脸", "F"], () => this.addFace()],
            [["Remove face", "删除脸", "Delete"], () => this.removeFace()], [["Undo", "撤销", "Ctrl+Z"], () => this.undo()],
            [["Redo", "重做", "Ctrl+Y"], () => this.redo()], [["Reset", "重置"], () => this.reset()]]) {
            const button = document.createElement("button")
            button.type = "button"
            button.textContent = say(text)
            button.title = sayWithKeys(text)
            button.style.cssText = BUTTON
            button.dataset.act = text[0]
            button.addEventListener("click", act)
            this.bar.append(button)
        }
        this.hint = document.createElement("div")
        this.hint.style.cssText = "font-size: 12px; line-height: 16px; color: var(--input-text)"
        this.tell(null)
        this.element.append(this.canvas, this.hint, this.bar)
        this.canvas.addEventListener("pointerdown", (event) => this.press(event))
        this.canvas.addEventListener("pointermove", (event) => this.move(event))
        this.canvas.addEventListener("pointerup", () => this.release())
        this.canvas.addEventListener("pointercancel", () => this.release())
        this.canvas.addEventListener("pointerleave", () => this.tell(null))
        this.canvas.addEventListener("keydown", (event) => this.key(event))
        new ResizeObserver(() => this.draw()).observe(this.canvas)
        this.begin()
    }

    // ---- the state ----

    size() {
        const of = (name) => Number(this.node.widgets.find((widget) => widget.name === name)?.value) || 1024
        return { width: of("width"), height: of("height") }
    }

    // Height of the node at which a picture of such a shape fills the editor.
    fittingHeight({ width, height }) {
        const editor = clamp((this.node.size[0] - 20) * height / width + BELOW_PICTURE, LEAST_HEIGHT, MOST_HEIGHT)
        return Math.round(this.node.computeSize()[1] - LEAST_HEIGHT + editor)
    }

    // Fits the node's height to a new shape, if it was fitted to the last one. A height that the user has dragged stays.
    follow() {
        if (this.node.size[1] !== this.fittingHeight(this.shape)) return
        this.node.setSize([this.node.size[0], this.fittingHeight(this.size())])
        app.graph.setDirtyCanvas(true, true)
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
        this.shape = this.size()
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
        this.face = clamp(this.face, 0, faces.length - 1)
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

    // The points of a new face in the middle of the widest free strip between the faces' handles and the picture's sides.
    beside(faces, points) {
        if (!faces.length) return points
        const { width, height, scale } = this.layout()
        const spans = faces.map((face) => face.points.map(([x]) => x)).map((xs) => [Math.min(...xs), Math.max(...xs)])
        let [free, end] = [[0, 0], 0]
        for (const [from, to] of [...spans.sort(([one], [two]) => one - two), [width, width]]) {
            if (Math.min(from, width) - end >= free[1] - free[0]) free = [end, Math.min(from, width)]
            end = Math.max(end, to)
        }
        const aside = (FRAME + HANDLE) / scale * ((free[0] > 0) - (free[1] < width)) / 2
        const own = points.map(([x]) => x)
        const factor = Math.min(1, Math.max((free[1] - free[0]) / 3, width / 20) / (Math.max(...own) - Math.min(...own)))
        const from = this.middle({ points })
        const [, y] = this.middle({ points: faces.flatMap((face) => face.points) })
        const middle = [(free[0] + free[1]) / 2 + aside, y].map((value, axis) => {
            const reach = factor * Math.max(...points.map((point) => Math.abs(point[axis] - from[axis])))
            return clamp(value, reach, [width, height][axis] - reach)
        })
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

    // The frame of a face and the places of the handles, all within the picture.
    handles(face) {
        const { scale, width, height } = this.layout()
        const within = (value, length) => clamp(value, HANDLE / scale, length - HANDLE / scale)
        const [xs, ys] = [0, 1].map((axis) => face.points.map((point) => point[axis]))
        const [left, right] = [Math.min(...xs) - FRAME / scale, Math.max(...xs) + FRAME / scale].map((x) => within(x, width))
        const [top, bottom] = [Math.min(...ys) - FRAME / scale, Math.max(...ys) + FRAME / scale].map((y) => within(y, height))
        return { box: [left, top, right, bottom], scale: [right, bottom], roll: [right, top], turn: [left, top] }
    }

    // What lies at a place of the picture, as {kind, face, point}; kind is one of SIGNS, "point" or "face".
    find(faces, at) {
        if (!faces.length) return null
        const { scale } = this.layout()
        const near = (place, reach = GRAB) => Math.hypot(place[0] - at[0], place[1] - at[1]) <= reach / scale
        const handles = this.handles(this.chosen(faces))
        const kind = Object.keys(SIGNS).find((name) => near(handles[name], HANDLE))
        if (kind) return { kind, face: this.face, point: null }
        const order = [this.face, ...faces.keys()]
        for (const face of order) {
            const point = faces[face].points.findIndex((place) => near(place))
            if (point >= 0) return { kind: "point", face, point }
        }
        const face = order.find((face) => {
            const [left, top, right, bottom] = this.handles(faces[face]).box
            return at[0] >= left && at[0] <= right && at[1] >= top && at[1] <= bottom
        })
        return face === undefined ? null : { kind: "face", face, point: null }
    }

    // Says below the picture what dragging from here does.
    tell(found) {
        this.hint.textContent = found ? sayWithKeys(HINTS[found.kind] ?? NAMES[found.point]) : say(IDLE)
    }

    press(event) {
        this.canvas.focus()
        event.preventDefault()
        event.stopPropagation()
        const [faces, at] = [this.faces(), this.at(event)]
        const found = this.find(faces, at)
        if (found) {
            this.canvas.setPointerCapture(event.pointerId)
            this.face = found.face
            this.point = found.point
            this.drag = { kind: found.kind, from: at, before: this.text(faces), faces, moved: false }
        }
        this.draw()
    }

    move(event) {
        if (!this.drag) return this.tell(this.find(this.faces(), this.at(event)))
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
        const chosen = this.chosen(faces)
        for (const [number, face] of faces.entries()) {
            this.drawFace(paint, face, scale, face === chosen)
            this.drawFrame(paint, face, scale, number, face === chosen)
        }
        if (chosen) this.drawHandles(paint, chosen, scale)
        paint.globalAlpha = 1
    }

    drawFace(paint, face, scale, chosen) {
        for (const layer of ["stick", "point"]) {
            face.points.forEach((point, index) => {
                paint.globalAlpha = Math.max(face.opacities[index] ?? 1, 0.15) * (layer === "stick" ? 0.6 : 1)
                paint.strokeStyle = paint.fillStyle = COLOURS[index]
                paint.beginPath()
                if (layer === "point") {
                    paint.arc(...point, (chosen && index === this.point ? 8 : 5) / scale, 0, 2 * Math.PI)
                    paint.fill()
                    paint.lineWidth = 1 / scale
                    paint.strokeStyle = "#fff"
                    paint.stroke()
                } else if (index !== NOSE) {
                    paint.lineWidth = 3 / scale
                    paint.moveTo(...point)
                    paint.lineTo(...face.points[NOSE])
                    paint.stroke()
                }
            })
        }
    }

    drawFrame(paint, face, scale, number, chosen) {
        const [left, top, right, bottom] = this.handles(face).box
        paint.globalAlpha = chosen ? 1 : 0.6
        paint.strokeStyle = paint.fillStyle = "#fff"
        paint.lineWidth = 1 / scale
        paint.strokeRect(left, top, right - left, bottom - top)
        paint.font = `${14 / scale}px sans-serif`
        paint.textBaseline = "middle"
        const point = chosen && this.point !== null ? `, ${say(NAMES[this.point])}` : ""
        paint.fillText(`${say(FACE)} ${number}${point}`, left, bottom + 20 / scale)
    }

    drawHandles(paint, face, scale) {
        const handles = this.handles(face)
        paint.globalAlpha = 1
        paint.strokeStyle = "#fff"
        paint.lineCap = paint.lineJoin = "round"
        for (const [name, path] of Object.entries(SIGNS)) {
            paint.fillStyle = "#222"
            paint.beginPath()
            paint.arc(...handles[name], HANDLE / scale, 0, 2 * Math.PI)
            paint.fill()
            paint.lineWidth = 1 / scale
            paint.stroke()
            paint.save()
            paint.translate(...handles[name])
            paint.scale(0.9 / scale, 0.9 / scale)
            paint.lineWidth = 1.8
            paint.stroke(new Path2D(path))
            paint.restore()
        }
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
                { serialize: false, getMinHeight: () => LEAST_HEIGHT, getHeight: () => "100%", hideOnZoom: false,
                    hideInPanel: true })        // the panel would take the editor off the node
            for (const widget of this.widgets.filter(({ name }) => name === "width" || name === "height")) {
                const { callback } = widget
                widget.callback = function () {
                    callback?.apply(this, arguments)
                    if (!state.value) editor.begun = ""
                    editor.follow()
                    editor.begin()
                }
            }
            this.size[0] = Math.max(this.size[0], 380)
            this.setSize([this.size[0], editor.fittingHeight(editor.size())])
        }
        nodeType.prototype.onConfigure = function () {
            onConfigure?.apply(this, arguments)
            const editor = this.instantidEditor
            if (!editor) return
            editor.begin()
            requestAnimationFrame(() => {       // after an undo, Nodes 2.0 still shows the editor of the node before
                const shown = document.querySelector(`[data-node-id="${this.id}"] .instantid-keypoints`)
                if (this.graph === app.canvas.graph) shown?.replaceWith(editor.element)
            })
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
