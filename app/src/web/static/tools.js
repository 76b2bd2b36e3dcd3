// Snapshot, recording, full screen and the viewer's link.

function save(blob, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function stamp() {
  return new Date().toISOString().slice(0, 19).replaceAll(':', '-');
}

export async function snapshot(stream) {
  const response = await fetch(`/api/snapshot.jpg?stream=${stream}`);
  if (!response.ok) throw new Error('There is no picture yet.');
  const name = `dreamglass-${stamp()}.jpg`;
  save(await response.blob(), name);
  return `Saved ${name}.`;
}

// Records what comes, as it comes.
export class Recording {
  constructor(video) {
    this.video = video;
    this.recorder = null;
  }

  get isOn() {
    return this.recorder !== null;
  }

  start() {
    if (!this.video.srcObject || typeof MediaRecorder === 'undefined') {
      throw new Error('There is nothing that this browser can record.');
    }
    const types = ['video/mp4;codecs=avc1.42E01E', 'video/webm;codecs=h264', 'video/webm'];
    const mimeType = types.find((type) => MediaRecorder.isTypeSupported(type));
    this.recorder = new MediaRecorder(this.video.srcObject, { mimeType });
    this.chunks = [];
    this.began = performance.now();
    this.recorder.ondataavailable = ({ data }) => data.size && this.chunks.push(data);
    this.recorder.start(1000);
  }

  stop() {
    const { recorder } = this;
    this.recorder = null;
    return new Promise((resolve) => {
      recorder.onstop = () => {
        const type = recorder.mimeType.split(';')[0] || 'video/webm';
        const name = `dreamglass-${stamp()}.${type.endsWith('mp4') ? 'mp4' : 'webm'}`;
        save(new Blob(this.chunks, { type }), name);
        resolve(`Saved ${name}.`);
      };
      recorder.stop();
    });
  }

  elapsed() {
    const seconds = Math.floor((performance.now() - this.began) / 1000);
    return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
  }
}

export function fullScreen(element) {
  if (document.fullscreenElement) document.exitFullscreen();
  else if (element.requestFullscreen) element.requestFullscreen().catch(() => {});
}

export async function copyViewerLink(stream) {
  const response = await fetch(`/api/viewer-link?stream=${stream}`);
  const path = response.ok ? (await response.json()).path : `/view?stream=${stream}`;
  const link = new URL(path, location.href).href;
  try {
    await navigator.clipboard.writeText(link);
    return `Copied ${link}`;
  } catch {
    return `The link for viewers is ${link}`;
  }
}
